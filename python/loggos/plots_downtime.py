"""Bars of downtime: of systems by election timeout, and of one with and without something."""

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from loggos.plots import STYLE, SYSTEMS, WIDTH, log_numbers

# Of the distance between two groups, what the bars of one take.
GROUP = 0.8
HATCH = "////"
WHOLE = Patch(facecolor="white", edgecolor="#555555", hatch=HATCH, label="the whole partition")


def systems(table: pd.DataFrame) -> Figure:
    """A panel for each kind of partition, a group for each election timeout, a bar a system."""
    kinds = list(table["scenario"].unique())
    timeouts = sorted(table["timeout_ms"].unique())
    names = [name for name in SYSTEMS if name in set(table["system"])]
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
        panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
        for axes, kind in zip(panels, kinds, strict=True):
            mine = table[table["scenario"] == kind]
            for number, name in enumerate(names):
                rows = mine[mine["system"] == name]
                at = rows["timeout_ms"].map(timeouts.index) + _offset(number, len(names))
                bars(axes, at, rows, SYSTEMS[name].color, GROUP / len(names))
            axes.set_title(f"{kind}, {mine['nodes'].iloc[0]} nodes", loc="left")
            axes.set_xticks(range(len(timeouts)), [f"{timeout:,}" for timeout in timeouts])
            axes.set_xlabel("election timeout (ms)")
        log_axis(panels[0], table)
        panels[0].set_ylabel("downtime (ms)")
        handles = [
            Patch(facecolor=SYSTEMS[name].color, label=SYSTEMS[name].label) for name in names
        ]
        figure.legend(handles=[*handles, WHOLE], loc="outside lower center", ncols=5)
    return figure


def bars(axes: Axes, at: pd.Series, rows: pd.DataFrame, color: str, width: float) -> None:
    """Bars with intervals and numbers; hatched, and as long as the partition, where service was
    not back in most repetitions."""
    for x, row in zip(at, rows.itertuples(), strict=True):
        if row.whole:
            look = {"facecolor": "white", "edgecolor": color, "hatch": HATCH, "lw": 0.8}
            axes.bar(x, row.cut_ms, width * 0.9, **look)
            value = row.cut_ms
        else:
            value = row.downtime_ms
            axes.bar(x, value, width * 0.9, color=color)
            if not np.isnan(row.downtime_ms_half):
                # A logarithmic axis has no place for what is below nothing.
                low = min(row.downtime_ms_half, 0.9 * value)
                axes.errorbar(
                    x, value, yerr=[[low], [row.downtime_ms_half]], fmt="none", ecolor="black",
                    capsize=2, elinewidth=0.8,
                )  # fmt: skip
        top = value if row.whole or np.isnan(row.downtime_ms_half) else value + row.downtime_ms_half
        axes.annotate(
            f"{value:,.0f}", (x, top), xytext=(0, 2), textcoords="offset points", ha="center",
            fontsize=6, rotation=90 if width < GROUP / 2 else 0,
        )  # fmt: skip


def log_axis(axes: Axes, table: pd.DataFrame) -> None:
    """From below the shortest downtime to above the longest partition."""
    axes.set_yscale("log")
    longest = table["cut_ms"].max()
    # Intervals of few repetitions may be wider than all that they are about.
    ends = (table["downtime_ms"] + table["downtime_ms_half"].fillna(0)).clip(upper=10 * longest)
    axes.set_ylim(table["downtime_ms"].min() / 3, 4 * max(longest, ends.max()))
    log_numbers(axes.yaxis)
    axes.grid(axis="x", visible=False)


def _offset(number: int, of: int) -> float:
    return (number - (of - 1) / 2) * GROUP / of
