"""The figures of the experiment `snapshot`."""

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from loggos import stats
from loggos.plots import COLORS, STYLE, WIDTH, log_milliseconds
from loggos.runs import Run

WINDOW_NS = 500_000_000
# By node, as in the other figures.
NODES = [COLORS["throughput"], COLORS["p50"], COLORS["leader"]]


def latency(run: Run, taking: pd.DataFrame) -> Figure:
    """Median, 99th percentile and maximum in windows of half a second; shaded while snapshots are
    taken."""
    start, end = run.load_ns
    # What was written before the load is no part of it.
    start = max(start, int(taking["begin_ns"].min()) - 30_000_000_000) if len(taking) else start
    windows = stats.latency(run.operations, start, end, WINDOW_NS)
    seconds = (windows["time_ns"] - start + WINDOW_NS / 2) / 1e9
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
        axes = figure.subplots()
        for span in taking.itertuples():
            axes.axvspan(
                (span.begin_ns - start) / 1e9, (span.end_ns - start) / 1e9, color=COLORS["cut"],
                alpha=0.15, lw=0,
            )  # fmt: skip
        axes.plot(seconds, windows["max"], color=COLORS["offered"], lw=0.8, label="maximum")
        axes.plot(seconds, windows["p99"], color=COLORS["p99"], lw=1, label="99th percentile")
        axes.plot(seconds, windows["p50"], color=COLORS["p50"], label="median")
        log_milliseconds(axes)
        axes.set_xlim(0, (end - start) / 1e9)
        axes.set_xlabel("time (s), in windows of half a second")
        axes.set_ylabel("latency (ms)")
        shade = Patch(color=COLORS["cut"], alpha=0.15, label="all nodes take snapshots")
        figure.legend(
            handles=[*axes.get_legend_handles_labels()[0], shade],
            loc="outside lower center",
            ncols=4,
        )
    return figure


def disk(used: pd.DataFrame) -> Figure:
    """What the data directories take, against the writes so far."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.4), layout="constrained")
        axes = figure.subplots()
        for name, color in zip(used.columns[1:], NODES, strict=False):
            axes.plot(used["writes"] / 1e6, used[name], color=color, lw=1, label=name)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("writes (million)")
        axes.set_ylabel("data directory (MiB)")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}"))
        axes.legend(loc="lower right", ncols=3)
    return figure
