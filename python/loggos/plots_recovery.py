"""The figure of the comparison `recovery`."""

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from loggos.plots import STYLE, SYSTEMS, WIDTH, log_numbers

# A small state is dashed and hollow.
STATES = {"large": "-", "small": (0, (4, 2))}


def recovery(table: pd.DataFrame, titles: dict[str, str]) -> Figure:
    """Seconds against what was written, a panel for each step."""
    steps = [name for name in titles if name in set(table["step"])]
    sizes = sorted(table["size_mib"].unique())
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.8 + 2.1 * (-(-len(steps) // 2))), layout="constrained")
        panels = figure.subplots(-(-len(steps) // 2), 2, squeeze=False, sharex=True).ravel()
        for axes, step in zip(panels, steps, strict=False):
            mine = table[table["step"] == step]
            for (name, state), rows in mine.groupby(["system", "state"], sort=False):
                look = SYSTEMS[name]
                half = rows["seconds_half"].fillna(0)
                axes.errorbar(
                    rows["size_mib"], rows["seconds"],
                    yerr=np.vstack([np.minimum(half, 0.9 * rows["seconds"]), half]),
                    label=f"{look.label}, {state} state", color=look.color, marker=look.marker,
                    markerfacecolor=look.color if state == "large" else "white",
                    ls=STATES[state], ms=4, lw=1.2, capsize=2, elinewidth=0.8,
                )  # fmt: skip
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
            axes.xaxis.set_minor_formatter(NullFormatter())
            log_numbers(axes.yaxis)
            axes.set_title(titles[step], loc="left", fontsize=8)
        for axes in panels[len(steps) :]:
            axes.set_visible(False)
        for axes in panels[-2:]:
            axes.set_xlabel("written before (MiB)")
        for axes in panels[::2]:
            axes.set_ylabel("seconds from its start")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure
