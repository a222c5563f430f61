"""The comparison `sizes`: throughput and latency by the size of the cluster."""

from pathlib import Path

import numpy as np
import pandas as pd

from loggos import cells, plots, plots_compare
from loggos.runs import Run
from loggos.tables import markdown


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each system and size: `achieved` of the closed loop of many, and `p50`, `p99` and
    `mean` of one operation at a time, with half-widths of their t intervals."""
    by = ["system", "nodes"]
    many = cells.intervals(rows[rows["load"] == "throughput"], by, ["achieved"])
    one = cells.intervals(rows[rows["load"] == "latency"], by, ["p50", "p99", "mean"])
    return many.merge(one.drop(columns="n"), on=by)


def published(run: Run) -> pd.DataFrame:
    """The table of a run that was analysed."""
    return pd.read_csv(run.path / "summary.csv")


def relative(table: pd.DataFrame) -> pd.DataFrame:
    """Throughput and latency of each system as shares of those of its smallest cluster."""
    shown = table[["system", "nodes", "achieved", "p50", "mean"]].copy()
    for _, mine in table.groupby("system"):
        smallest = mine.loc[mine["nodes"].idxmin()]
        for name in ("achieved", "p50", "mean"):
            shown.loc[mine.index, name] = mine[name] / smallest[name]
    return shown


def report(run: Run, figures: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table, and the parts of the page."""
    rows = cells.reports(run)
    order = {name: at for at, name in enumerate(run.experiment["systems"])}
    rows = rows.iloc[np.lexsort([rows["nodes"], rows["system"].map(order)])]
    table = summary(rows)
    plots.save(plots_compare.sizes(table), figures, "sizes")
    under_way = run.experiment["clients"] * run.experiment["in_flight"]
    return table, [
        "![Throughput and latency by cluster size](figures/sizes.svg)",
        markdown(table, 2),
        f"`achieved`: operations a second in a closed loop of {under_way}; `p50`, `p99`, `mean`: "
        "milliseconds of one operation at a time. `NAME_half`, and the bars: half the 95 % t "
        "interval of the mean over the repetitions. All nodes share the processors of one machine, "
        "so that a larger cluster also has less of them for each.",
    ]
