"""The figure of the comparison `ablation`."""

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loggos.plots import COLORS, STYLE, WIDTH, log_numbers
from loggos.plots_downtime import WHOLE, bars, log_axis

WHOLE_COLOR, WITHOUT_COLOR = COLORS["throughput"], COLORS["p50"]


def worth(table: pd.DataFrame, cut: pd.DataFrame, words: dict[str, str]) -> Figure:
    """Throughput of each closed loop of many and latency of one client, a bar for each that is left
    out; and downtime with and without the election."""
    loops = sorted(table["under_way"].unique())
    kinds = list(cut["scenario"].unique())
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
        above, below = figure.subfigures(2, 1, height_ratios=[3, 2.6])
        panels = above.subplots(1, len(loops), sharey=True)
        for axes, number in zip(panels, [*loops[1:], loops[0]], strict=True):
            mine = table[table["under_way"] == number].reset_index(drop=True)
            if number == loops[0]:
                _lines(axes, mine, "p50", "median latency of one client (ms)", "{:,.2f}")
            else:
                _lines(axes, mine, "achieved", f"operations/s, {number:,} under way", "{:,.0f}")
        names = [words[name] for name in mine["without"]]
        panels[0].set_yticks(range(len(names)), names)
        panels[0].set_ylim(len(names) - 0.4, -0.6)
        axes = below.subplots()
        for number, without in enumerate(cut["without"].unique()):
            rows = cut[cut["without"] == without]
            at = rows["scenario"].map(kinds.index) + 0.4 * (number - 0.5)
            bars(axes, at, rows, WITHOUT_COLOR if number else WHOLE_COLOR, 0.4)
            axes.bar(0, 0, color=WITHOUT_COLOR if number else WHOLE_COLOR, label=words[without])
        titles = [
            f"{row.scenario}, {row.nodes} nodes, election timeout {row.timeout_ms:,} ms"
            for row in cut.drop_duplicates("scenario").itertuples()
        ]
        axes.set_xticks(range(len(kinds)), titles)
        log_axis(axes, cut)
        axes.set_ylabel("downtime (ms)")
        handles, _ = axes.get_legend_handles_labels()
        below.legend(handles=[*handles, WHOLE], loc="outside lower center", ncols=3)
    return figure


def _lines(axes: Axes, rows: pd.DataFrame, name: str, title: str, form: str) -> None:
    """A horizontal bar a row, its interval and its number."""
    halves = rows[f"{name}_half"].fillna(0)
    colors = [WHOLE_COLOR, *[WITHOUT_COLOR] * (len(rows) - 1)]
    error = np.vstack([np.minimum(halves, 0.9 * rows[name]), halves])
    axes.barh(
        rows.index, rows[name], 0.7, color=colors, xerr=error,
        error_kw={"capsize": 2, "elinewidth": 0.8},
    )  # fmt: skip
    axes.set_xscale("log")
    low, high = rows[name].min() / 2, (rows[name] + halves).max()
    axes.set_xlim(low, high * (high / low) ** 0.35)
    for at, value, half in zip(rows.index, rows[name], halves, strict=True):
        axes.annotate(
            form.format(value), (value + half, at), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=6.5,
        )  # fmt: skip
    log_numbers(axes.xaxis)
    axes.tick_params(axis="x", labelsize=6.5)
    axes.set_title(title, loc="left", fontsize=8)
    axes.grid(axis="y", visible=False)
