"""The comparison `steady`: latency against throughput at rising load."""

from pathlib import Path

import numpy as np
import pandas as pd

from loggos import cells, plots, plots_compare
from loggos.runs import Run
from loggos.tables import markdown

MEASURES = ["achieved", "p50", "p99", "mean"]


def steady_points(rows: pd.DataFrame, keeps_up: float) -> pd.DataFrame:
    """A row for each system and load: means over the repetitions with half-widths of their t
    intervals, `keeps` (whether it achieved the share `keeps_up` of what was offered; in a closed
    loop all is), and `knee`, the highest load with which a system still kept up, if there was one
    above it."""
    points = cells.intervals(rows, ["system", "load", "offered"], MEASURES)
    points["keeps"] = ~(points["achieved"] < keeps_up * points["offered"])
    points["knee"] = False
    for _, mine in points.groupby("system"):
        # The knee lies before the first load that was too much: a later one may be a lucky one.
        early = mine[mine["keeps"].cummin()]
        if len(early) and len(early) < len(mine):
            points.loc[early["achieved"].idxmax(), "knee"] = True
    return points


def knees(points: pd.DataFrame) -> pd.DataFrame:
    """A row for each system: the load at its knee, or the most that it achieved if there is none;
    its latencies, and whether it is a knee."""
    rows = []
    for system, mine in points.groupby("system", sort=False):
        at = mine["knee"].idxmax() if mine["knee"].any() else mine["achieved"].idxmax()
        point = mine.loc[at]
        rows.append(
            {
                "system": system,
                "operations/s": round(point["achieved"]),
                "± 95 %": point["achieved_half"],
                "p50 ms": point["p50"],
                "p99 ms": point["p99"],
                "mean ms": point["mean"],
                "repeats": int(point["n"]),
                "what": "knee" if point["knee"] else "most achieved",
            }
        )
    return pd.DataFrame(rows)


def published(run: Run) -> pd.DataFrame:
    """The points of a run that was analysed, from its table."""
    return pd.read_csv(run.path / "summary.csv")


def report(run: Run, figures: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table, and the parts of the page."""
    keeps_up = run.experiment["keeps_up"]
    rows = cells.reports(run)
    # In the order of the loads, which their names have.
    order = rows["system"].map({name: at for at, name in enumerate(run.experiment["systems"])})
    rows = rows.iloc[np.lexsort([rows["load"], order])]
    points = steady_points(rows, keeps_up)
    plots.save(plots_compare.latency_throughput(points), figures, "latency-throughput")
    parts = [
        "![Latency against throughput](figures/latency-throughput.svg)",
        markdown(knees(points), 2),
        f"Knee: the highest load of which a system achieves {keeps_up:.0%}, where there is a "
        "higher one of which it does not (rings in the figure). Open loop, Poisson arrivals, "
        "latency from the intended start; means over the repetitions, bars are 95 % t intervals.",
    ]
    if points["offered"].notna().any():
        plots.save(plots_compare.offered_achieved(points), figures, "achieved")
        parts.append("![Achieved against offered load](figures/achieved.svg)")
    closed = points[points["offered"].isna()]["system"].unique()
    if len(closed):
        parts.append(
            f"In closed loops of rising numbers under way, with the mean in the place of the "
            f"median: {', '.join(closed)}; what latency counts there is less than in an open loop."
        )
    return points, parts
