"""The figure of the experiment `reconfigure`."""

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from loggos import stats
from loggos.marks import of
from loggos.plots import COLORS, STYLE, WIDTH, log_milliseconds


def timeline(windows: pd.DataFrame, marks: pd.DataFrame, sent: pd.DataFrame) -> Figure:
    """Throughput, latency and bytes sent over time; shaded while a node is replaced.

    Of `reconfigure.windows`, `reconfigure.marked` and `reconfigure.traffic`.
    """
    steps = of(marks, "step")
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 5.0), layout="constrained")
        top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=[3, 2, 3])
        for axes in (top, middle, bottom):
            for step in steps.itertuples():
                axes.axvspan(step.start_s, step.end_s, color=COLORS["pause"], alpha=0.15, lw=0)
            for won in of(marks, "elected").itertuples():
                axes.axvline(won.start_s, color=COLORS["leader"], lw=1, ls=(0, (1, 1.5)))
        for step in steps.itertuples():
            top.annotate(
                step.label, (step.start_s, 1),
                xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points",
                rotation=20, rotation_mode="anchor", fontsize=7, annotation_clip=False,
            )  # fmt: skip
        times, rate = windows["at_s"], windows["per_second"]
        top.plot(times, rate, color=COLORS["throughput"], lw=0.6, alpha=0.5)
        top.plot(times, stats.ewma(rate), color=COLORS["throughput"])
        top.set_ylim(0, 1.6 * rate.median())
        top.set_ylabel("replies per second")
        middle.plot(times, windows["p99_ms"], color=COLORS["p99"], lw=0.8, label="99th percentile")
        middle.plot(times, windows["p50_ms"], color=COLORS["p50"], lw=0.8, label="median")
        log_milliseconds(middle)
        # Room for the legends above the highest peaks, wherever these are.
        middle.set_ylim(top=8 * windows["p99_ms"].max())
        middle.set_ylabel("latency (ms)")
        middle.legend(loc="upper right", ncols=2, frameon=True, framealpha=0.9)
        everybody, leading = sent["all_mb_per_s"], sent["leader_mb_per_s"]
        bottom.plot(sent["at_s"], everybody, color=COLORS["offered"], lw=0.8, label="all nodes")
        bottom.plot(sent["at_s"], leading, color=COLORS["leader"], lw=1.2, label="the leader")
        bottom.set_ylim(0, 1.35 * everybody.max())
        bottom.set_ylabel("sent (MB/s)")
        bottom.set_xlabel("time (s); dotted: a new leader")
        bottom.set_xlim(0, of(marks, "load")["end_s"].iloc[0])
        bottom.legend(loc="upper right", ncols=2, frameon=True, framealpha=0.9)
    return figure
