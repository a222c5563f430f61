"""Latency against throughput: loads at rising rates."""

from pathlib import Path

import pandas as pd

from loggos import plots, stats
from loggos.runs import Run
from loggos.tables import markdown

# A system keeps up with a load if it achieves this share of what was offered.
KEEPS_UP = 0.95


def steady_points(run: Run) -> tuple[pd.DataFrame, pd.Series | None]:
    """A row for each offered rate: median and range of its repeats; and the knee.

    The median, because one repeat that the machine disturbed would move a mean of few by itself.
    `achieved_half` is half the 95 % t interval of the mean, for who wants to test a difference.
    The knee is the highest achieved throughput at which the system still keeps up with the load;
    there is none to see if it keeps up with the highest load.
    """
    rows = pd.DataFrame([_bench_row(bench) for bench in run.benches])
    # Generators on several hosts share one load: they add up, and the slowest one speaks for all.
    how = {"offered": "sum", "achieved": "sum", "p50_ms": "max", "p99_ms": "max"}
    rows = rows.groupby("load").agg(how)
    points = []
    for offered, repeats in rows.groupby("offered"):
        point = {"offered": offered, "repeats": len(repeats)}
        for name in ("achieved", "p50_ms", "p99_ms"):
            point[name] = repeats[name].median()
            point[f"{name}_low"] = repeats[name].min()
            point[f"{name}_high"] = repeats[name].max()
        point["achieved_half"] = stats.t_interval(repeats["achieved"])["half"]
        points.append(point)
    frame = pd.DataFrame(points)
    kept = frame[frame["achieved"] >= KEEPS_UP * frame["offered"]]
    saturated = len(kept) > 0 and kept["offered"].max() < frame["offered"].max()
    knee = kept.loc[kept["achieved"].idxmax()] if saturated else None
    return frame, knee


def _bench_row(bench: dict) -> dict:
    """One report of the load generator as the columns that `steady_points` needs."""
    # What writes take is what the log costs; a load of reads alone has only these.
    latency = bench["writes" if bench["writes"]["ok"] else "reads"]["latency_us"]
    return {
        "load": bench["file"].rpartition("-")[0],
        "offered": bench["parameters"]["rate"],
        "achieved": bench["throughput"],
        "p50_ms": latency["p50"] / 1e3,
        "p99_ms": latency["p99"] / 1e3,
    }


def report(run: Run, figures: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table, and the parts of the page."""
    table, knee = steady_points(run)
    figure = plots.latency_throughput(table, knee, "Latency against throughput")
    plots.save(figure, figures, "latency-throughput")
    return table, [
        "![Latency against throughput](figures/latency-throughput.svg)",
        markdown(table, 2),
        "Median of the repeats, with the lowest and the highest; `achieved_half`: half-width "
        "of the 95 % t interval of the mean. Knee (achieves "
        f"{KEEPS_UP:.0%} of the offered load): "
        + (f"{knee['achieved']:,.0f} operations/s." if knee is not None else "none in this range."),
    ]
