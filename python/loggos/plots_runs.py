"""The figure of two runs side by side."""

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from loggos.plots import COLORS, OFFERED, STYLE, WIDTH, log_numbers

# By whether the intervals are apart: face, in words.
MARKS = {
    "yes": (COLORS["throughput"], "intervals apart"),
    "no": ("white", "intervals overlap"),
    "unknown": ("#BBBBBB", "no interval"),
}


def ratios(table: pd.DataFrame, keys: list[str], measures: list[str]) -> Figure:
    """How the second run stands to the first, a panel for each of the measures."""
    names = list(dict.fromkeys(table[keys].astype(str).agg(" ".join, axis=1)))
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.1 + 0.19 * len(names)), layout="constrained")
        panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
        for axes, measure in zip(panels, measures, strict=True):
            mine = table[table["measure"] == measure]
            at = mine[keys].astype(str).agg(" ".join, axis=1).map(names.index)
            axes.axvline(1, **OFFERED, zorder=1)
            for told, (face, words) in MARKS.items():
                chosen = mine["apart"] == told
                axes.plot(
                    mine.loc[chosen, "ratio"], at[chosen], ls="", marker="o", ms=5, label=words,
                    mfc=face, mec=COLORS["throughput"],
                )  # fmt: skip
            axes.set_xscale("log")
            log_numbers(axes.xaxis)
            axes.set_title(measure, loc="left")
            axes.set_xlabel("second run / first run")
        panels[0].set_yticks(range(len(names)), names)
        panels[0].set_ylim(len(names) - 0.5, -0.5)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure
