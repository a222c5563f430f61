"""The comparison `cdf`: how latencies are distributed at light and at half load."""

from pathlib import Path

import numpy as np
import pandas as pd

from loggos import cells, plots, plots_compare, stats, trace
from loggos.cells import Cell
from loggos.runs import Run
from loggos.tables import kept, markdown

PERCENTILES = (50, 90, 99, 99.9)
NAMES = [f"p{which:g}" for which in PERCENTILES]


def latencies(cell: Cell, load: str) -> np.ndarray:
    """Milliseconds that each successful operation of a load took, its warm-up left out, sorted."""
    paths = list(cell.run.path.glob(f"traces/bench-{load}-c*.trace"))
    operations = stats.succeeded(trace.operations(trace.read_all(paths)))
    begin = operations["start_ns"].min() + cell.run.experiment["warmup_s"] * 1e9
    return np.sort(operations.loc[operations["start_ns"] >= begin, "latency_ns"]) / 1e6


def distributions(run: Run) -> pd.DataFrame:
    """A row for each traced load of each cell: `system`, `repeat`, `load`, `rate`, and `ms`, the
    latencies of all its operations in order."""
    rows = []
    for cell in cells.load(run):
        for bench in cell.run.benches:
            rate = bench["parameters"].get("rate")
            if rate:
                about = {"system": cell.system, "repeat": cell.repeat}
                load = cells.load_of(bench)
                rows.append({**about, "load": load, "rate": rate, "ms": latencies(cell, load)})
    return pd.DataFrame(rows)


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """A row for each load and system: the mean rate, and percentiles with their t intervals."""
    rows = found.drop(columns="ms").join(
        pd.DataFrame([np.percentile(ms, PERCENTILES) for ms in found["ms"]], columns=NAMES)
    )
    rows = rows.sort_values("load", kind="stable")
    return cells.intervals(rows, ["load", "system"], ["rate", *NAMES])


def points(found: pd.DataFrame) -> pd.DataFrame:
    """The distributions as a figure shows them, all repetitions together: `load`, `system`, and of
    each the columns of `stats.quantiles`, which are `share` of the operations and `ms`."""
    groups = found.sort_values("load", kind="stable").groupby(["load", "system"], sort=False)
    frames = []
    for (load, system), mine in groups:
        frame = stats.quantiles(np.concatenate(list(mine["ms"])))
        frame.insert(0, "load", load)
        frame.insert(1, "system", system)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def titles(shown: pd.DataFrame, share: float) -> dict[str, str]:
    """The loads of these points in words, in their order."""
    return {
        load: f"at {share:.0%} of its closed loop" if load == "share"
        else f"at {int(load.removeprefix('rate-')):,} operations/s"
        for load in shown["load"].unique()
    }  # fmt: skip


def report(run: Run, figures: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table, and the parts of the page."""
    found = distributions(run)
    table = summary(found)
    share = run.experiment["share"]
    shown = kept(points(found), run.path, "cdf-points")
    plots.save(plots_compare.distributions(shown, titles(shown, share)), figures, "cdf")
    return table, [
        "![Distributions of latency](figures/cdf.svg)",
        markdown(table.drop(columns="rate_half"), 2),
        "Milliseconds from the intended start, open loop, Poisson arrivals; `NAME_half`: half the "
        "95 % t interval of the mean over the repetitions. `share`: each system at "
        f"{share:.0%} of what it achieved in a closed loop of "
        f"{run.experiment['clients'] * run.experiment['in_flight']} operations just before.",
    ]
