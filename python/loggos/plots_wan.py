"""The figure of the experiment `wan`."""

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from loggos.plots import STYLE, WIDTH

# By region, in the order of the experiment.
LINES = [
    ("#0072B2", "-"),
    ("#D55E00", (0, (5, 1.5))),
    ("#009E73", (0, (3, 1, 1, 1))),
    ("#CC79A7", (0, (1, 1))),
    ("#000000", (0, (6, 1, 1, 1, 1, 1))),
]


def latency(points: pd.DataFrame) -> Figure:
    """The share of operations that took no longer, by region, of `wan.points`: a row of panels for
    each leader, a column for writes and for each way of reads."""
    leaders, kinds, regions = (points[name].unique() for name in ("leader", "operation", "region"))
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.7 + 1.7 * len(leaders)), layout="constrained")
        panels = figure.subplots(len(leaders), len(kinds), sharex=True, sharey=True, squeeze=False)
        for row, leader in enumerate(leaders):
            for axes, kind in zip(panels[row], kinds, strict=True):
                mine = points[(points["leader"] == leader) & (points["operation"] == kind)]
                for (color, line), region in zip(LINES, regions, strict=False):
                    rows = mine[mine["region"] == region]
                    axes.plot(rows["ms"], rows["share"], color=color, ls=line, label=region)
                if row == 0:
                    axes.set_title(kind, fontsize=8)
            panels[row, 0].set_ylabel(f"led from {leader}")
        # The slowest few would take half of the axis.
        panels[0, 0].set_xlim(0, 1.1 * points[points["share"] <= 0.95]["ms"].max())
        panels[0, 0].set_ylim(0, 1)
        for axes in panels[-1]:
            axes.set_xlabel("latency (ms)")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside lower center", ncols=len(labels), handlelength=3.5,
            title="clients in", title_fontsize=7.5,
        )  # fmt: skip
    return figure
