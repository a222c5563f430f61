"""The figures of the experiment `snapshot`."""

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from loggos.marks import of
from loggos.plots import COLORS, STYLE, WIDTH, log_milliseconds

# By node, as in the other figures.
NODES = [COLORS["throughput"], COLORS["p50"], COLORS["leader"]]


def latency(windows: pd.DataFrame, marks: pd.DataFrame) -> Figure:
    """Median, 99th percentile and maximum in windows of half a second; shaded while snapshots are
    taken. Of `snapshot.windows` and `snapshot.marked`."""
    seconds = windows["at_s"]
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
        axes = figure.subplots()
        for span in of(marks, "snapshot").itertuples():
            axes.axvspan(span.start_s, span.end_s, color=COLORS["cut"], alpha=0.15, lw=0)
        axes.plot(seconds, windows["max_ms"], color=COLORS["offered"], lw=0.8, label="maximum")
        axes.plot(seconds, windows["p99_ms"], color=COLORS["p99"], lw=1, label="99th percentile")
        axes.plot(seconds, windows["p50_ms"], color=COLORS["p50"], label="median")
        log_milliseconds(axes)
        axes.set_xlim(0, of(marks, "load")["end_s"].iloc[0])
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
