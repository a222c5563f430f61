"""The figures of the experiment `reads`."""

from itertools import product

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from loggos.plots import COLORS, STYLE, WIDTH, log_milliseconds, spread

# By way: marker, colour, line.
WAYS = {
    "leader": ("o", COLORS["throughput"], "-"),
    "lease": ("^", COLORS["p50"], (0, (4, 2))),
    "quorum": ("s", COLORS["leader"], (0, (1, 1))),
}
# What a leader dies of, in words.
DEATHS = {"process": "process killed", "machine": "machine gone"}


def load(points: pd.DataFrame) -> Figure:
    """Latency of reads against throughput by way, and how much of the nodes' work the busiest does;
    bars show the range of the repeats."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
        panels = figure.subplots(1, 3)
        names = {
            "p50_ms": "median latency of reads (ms)",
            "p99_ms": "99th percentile (ms)",
            "busiest_percent": "busiest node's share of processor time (%)",
        }
        for axes, (name, words) in zip(panels, names.items(), strict=True):
            for way, rows in points.groupby("way", sort=False):
                marker, color, line = WAYS[way]
                axes.errorbar(
                    rows["achieved"] / 1e3, rows[name], yerr=spread(rows, name), marker=marker,
                    color=color, ls=line, ms=4, capsize=2, elinewidth=0.8, label=f"by {way}",
                )  # fmt: skip
            axes.set_xlim(left=0)
            axes.set_ylabel(words)
            axes.set_xlabel("thousand operations/s")
        log_milliseconds(panels[0])
        log_milliseconds(panels[1])
        panels[2].set_ylim(0, 100)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, handlelength=4)
    return figure


def deaths(replies: pd.DataFrame, died: pd.DataFrame) -> Figure:
    """Replies to reads around the deaths of leaders, a row of panels for each way, and the longest
    times without one."""
    ways, kinds = list(died["way"].unique()), list(died["of"].unique())
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
        left, right = figure.subfigures(1, 2, width_ratios=(5, 3))
        panels = left.subplots(len(ways), len(kinds), sharex=True, sharey=True, squeeze=False)
        for (row, way), (column, of) in product(enumerate(ways), enumerate(kinds)):
            axes = panels[row, column]
            color = WAYS[way][1]
            mine = replies[(replies["way"] == way) & (replies["of"] == of)]
            for _, rows in mine.groupby("death"):
                axes.step(
                    rows["ms"], rows["per_second"], "-", where="mid", color=color, lw=0.5, alpha=0.4
                )
            mean = mine.groupby("ms")["per_second"].mean()
            axes.step(mean.index, mean, where="mid", color=color)
            axes.axvline(0, color=COLORS["failed"], lw=1)
            axes.set_title(f"by {way}: {DEATHS[of]}", loc="left", fontsize=8)
        # What waited comes back at once, and would flatten all the rest.
        usual = replies[replies["ms"] < 0]["per_second"].mean()
        panels[0, 0].set_ylim(0, max(2.5 * usual, 1))
        left.supylabel("replies to reads per second", fontsize=8)
        left.supxlabel("time since the leader's death (ms)", fontsize=8)

        axes = right.subplots()
        before = died.assign(of="before", read_ms=died["calm_read_ms"])
        columns = ["before", *kinds]
        for shift, way in zip((-0.22, 0, 0.22), ways, strict=False):
            marker, color, _ = WAYS[way]
            for at, of in enumerate(columns):
                rows = (before if of == "before" else died).query("way == @way and of == @of")
                look = {"marker": marker, "color": color, "ls": "", "ms": 4, "mew": 0, "alpha": 0.5}
                label = f"by {way}" if at == 0 else None
                axes.plot([at + shift] * len(rows), rows["read_ms"], label=label, **look)
                axes.hlines(
                    rows["read_ms"].median(), at + shift - 0.1, at + shift + 0.1, color=color
                )
        log_milliseconds(axes)
        axes.set_xticks(
            range(len(columns)), ["before", *(DEATHS[of].replace(" ", "\n") for of in kinds)]
        )
        axes.set_ylabel("longest time without a reply to a read (ms)")
        axes.grid(axis="x", visible=False)
        right.legend(loc="outside lower center", ncols=3, handletextpad=0.1, columnspacing=1)
    return figure
