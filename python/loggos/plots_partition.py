"""The figure of the experiment `partition`."""

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from loggos import stats
from loggos.plots import COLORS, STYLE, WIDTH

# By the size of the cluster, in the order of the sizes.
SIZES = [("o", COLORS["throughput"]), ("s", COLORS["p50"])]


def away(cuts: pd.DataFrame, bar: float) -> Figure:
    """How long service was away in every course: a dot each, the mean, its 95 % interval."""
    names, sizes = list(cuts["scenario"].unique()), sorted(cuts["nodes"].unique())
    spread = np.random.default_rng(1)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.7 + 0.36 * len(names)), layout="constrained")
        axes = figure.subplots()
        axes.axvspan(0, bar, color=COLORS["leader"], alpha=0.08, lw=0)
        axes.axvline(bar, color=COLORS["leader"], lw=1, ls=(0, (4, 2)))
        axes.annotate(
            f"bar: {bar:g}", (bar, 1), xycoords=("data", "axes fraction"), xytext=(3, -2),
            textcoords="offset points", va="top", fontsize=7, color=COLORS["leader"],
        )  # fmt: skip
        for (marker, color), size, offset in zip(SIZES, sizes, (-0.19, 0.19), strict=False):
            for row, name in enumerate(names):
                values = cuts[(cuts["scenario"] == name) & (cuts["nodes"] == size)]["away"]
                y = row + offset + spread.uniform(-0.09, 0.09, len(values))
                axes.plot(values, y, ls="", marker=marker, ms=2.2, color=color, alpha=0.3, mew=0)
                mean = stats.t_interval(values)
                axes.errorbar(
                    mean["mean"], row + offset, xerr=np.nan_to_num(mean["half"]), fmt=marker,
                    ms=4.5, color=color, mec="white", mew=0.6, capsize=2.5, elinewidth=1.1,
                )  # fmt: skip
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.set_xlabel(
            "election timeouts until service was back (dots: courses; mean with 95 % interval)"
        )
        axes.grid(axis="y", visible=False)
        handles = [
            Line2D([], [], ls="", marker=marker, color=color, label=f"{size} nodes")
            for (marker, color), size in zip(SIZES, sizes, strict=False)
        ]
        axes.legend(handles=handles, loc="lower right", frameon=True, framealpha=0.9)
    return figure
