"""The cells of a comparison: one system with one choice of parameters, once, in a folder each."""

import json
from dataclasses import dataclass

import pandas as pd

from loggos import stats
from loggos.runs import Run

MARKER = "cell.json"


@dataclass(frozen=True)
class Cell:
    """One cell that ended well. `run` is its own folder, with the parameters as they were there."""

    system: str
    repeat: int
    changes: dict
    run: Run


def load(run: Run) -> list[Cell]:
    """All cells that ended well, in the order of the systems; raises if there are none."""
    found = []
    for marker in sorted(run.path.glob(f"cells/*/{MARKER}")):
        about = json.loads(marker.read_text())
        experiment = {**run.experiment, **about["changes"]}
        inner = Run(marker.parent, experiment, run.environment, {"ok": True})
        found.append(Cell(about["system"], about["repeat"], about["changes"], inner))
    if not found:
        raise ValueError(f"{run.path}: no cell has ended well")
    order = {name: at for at, name in enumerate(run.experiment["systems"])}
    return sorted(found, key=lambda cell: (order[cell.system], cell.repeat))


def load_of(bench: dict) -> str:
    """Which of a cell's loads a report is of: its file's name without the client host's."""
    return bench["file"].removeprefix("bench-").rpartition("-")[0]


def reports(run: Run, names: tuple[str, ...] = ("nodes",)) -> pd.DataFrame:
    """A row for each load of each cell: `system`, `repeat`, its parameters of these names, `load`
    (its own name), `offered` (NaN in a closed loop), `achieved` operations a second, and in
    milliseconds `p50`, `p99` (NaN where the load generator tells none) and `mean`."""
    rows = []
    for cell in load(run):
        for bench in cell.run.benches:
            # What writes take is what the log costs; a load of reads alone has only these.
            latency = bench["writes" if bench["writes"]["ok"] else "reads"]["latency_us"]
            rows.append(
                {
                    "system": cell.system,
                    "repeat": cell.repeat,
                    **{name: cell.run.experiment[name] for name in names},
                    "load": load_of(bench),
                    "offered": bench["parameters"].get("rate") or float("nan"),
                    "achieved": bench["throughput"],
                    **{name: latency.get(name, float("nan")) / 1e3 for name in ("p50", "p99")},
                    "mean": latency.get("mean", float("nan")) / 1e3,
                }
            )
    frame = pd.DataFrame(rows)
    # Generators on several hosts share one load: they add up, and the slowest one speaks for all.
    how = {"offered": _sum, "achieved": "sum", "p50": "max", "p99": "max", "mean": "max"}
    by = ["system", "repeat", *names, "load"]
    return frame.groupby(by, sort=False, as_index=False).agg(how)


def _sum(values: pd.Series) -> float:
    return values.sum(skipna=False)


def intervals(rows: pd.DataFrame, by: list[str], names: list[str]) -> pd.DataFrame:
    """A row for each group, in the order in which they come: `n`, and of each of `names` the mean
    over the repetitions and, as `NAME_half`, half the width of its 95 % t interval."""
    found = []
    for key, group in rows.groupby(by, sort=False, dropna=False):
        row = dict(zip(by, key, strict=True)) | {"n": len(group)}
        for name in names:
            interval = stats.t_interval(group[name])
            row |= {name: interval["mean"], f"{name}_half": interval["half"]}
        found.append(row)
    return pd.DataFrame(found)
