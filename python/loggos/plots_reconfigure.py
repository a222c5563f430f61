"""The figure of the experiment `reconfigure`."""

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from loggos import faults, stats
from loggos.plots import COLORS, STYLE, WIDTH, log_milliseconds
from loggos.runs import Run


def timeline(run: Run, steps: pd.DataFrame, rates: pd.DataFrame, leading: pd.Series) -> Figure:
    """Throughput, latency and bytes sent over time; shaded while a node is replaced.

    `rates` and `leading`: what each node sent a second, and the leader (`reconfigure.sent`).
    """
    start, end = int(rates["time_ns"].min()), int(rates["time_ns"].max())

    def seconds(times: pd.Series) -> pd.Series:
        return (times - start) / 1e9

    throughput = stats.throughput(run.operations, start, end)
    latency = stats.latency(run.operations, start, end)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 5.0), layout="constrained")
        top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=[3, 2, 3])
        for axes in (top, middle, bottom):
            for step in steps.itertuples():
                axes.axvspan(
                    (step.begin_ns - start) / 1e9, (step.end_ns - start) / 1e9,
                    color=COLORS["pause"], alpha=0.15, lw=0,
                )  # fmt: skip
            for lead in faults.leaders(run).itertuples():
                if start < lead.start_ns < end:
                    axes.axvline(
                        (lead.start_ns - start) / 1e9, color=COLORS["leader"], lw=1,
                        ls=(0, (1, 1.5)),
                    )  # fmt: skip
        for step in steps.itertuples():
            top.annotate(
                step.label, ((step.begin_ns - start) / 1e9, 1),
                xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points",
                rotation=20, rotation_mode="anchor", fontsize=7, annotation_clip=False,
            )  # fmt: skip
        times = seconds(throughput["time_ns"])
        top.plot(times, throughput["per_second"], color=COLORS["throughput"], lw=0.6, alpha=0.5)
        top.plot(times, stats.ewma(throughput["per_second"]), color=COLORS["throughput"])
        top.set_ylim(0, 1.6 * throughput["per_second"].median())
        top.set_ylabel("replies per second")
        times = seconds(latency["time_ns"])
        middle.plot(times, latency["p99"], color=COLORS["p99"], lw=0.8, label="99th percentile")
        middle.plot(times, latency["p50"], color=COLORS["p50"], lw=0.8, label="median")
        log_milliseconds(middle)
        middle.set_ylabel("latency (ms)")
        middle.legend(loc="upper right", ncols=2, frameon=True, framealpha=0.9)
        times = seconds(rates["time_ns"])
        everybody = rates.drop(columns="time_ns").sum(axis=1) / 1e6
        bottom.plot(times, everybody, color=COLORS["offered"], lw=0.8, label="all nodes")
        bottom.plot(
            times, np.asarray(leading) / 1e6, color=COLORS["leader"], lw=1.2, label="the leader"
        )
        bottom.set_ylim(bottom=0)
        bottom.set_ylabel("sent (MB/s)")
        bottom.set_xlabel("time (s); dotted: a new leader")
        bottom.set_xlim(0, (end - start) / 1e9)
        bottom.legend(loc="upper right", ncols=2, frameon=True, framealpha=0.9)
    return figure
