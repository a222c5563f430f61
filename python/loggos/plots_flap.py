"""The figure of the experiment `flap`."""

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from loggos.plots import COLORS, OFFERED, STYLE, WIDTH

# By link.
LINKS = {
    "leader-follower": ("o", COLORS["p50"], "-"),
    "follower-follower": ("s", COLORS["throughput"], (0, (4, 2))),
}
MEASURES = {
    "served_percent": "windows with a reply\nto any client (%)",
    "worst_percent": "to the client with\nfewest (%)",
    "in_time_percent": "operations in time (%)",
    "elections_per_minute": "elections per minute",
}


def flap(table: pd.DataFrame) -> Figure:
    """Availability and elections against the period; bars show the 95 % interval of the mean."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
        panels = list(figure.subplots(2, 2, sharex=True).flat)
        calm = table[table["link"] == "none"]
        for axes, (name, words) in zip(panels, MEASURES.items(), strict=True):
            for value in calm[name]:
                axes.axhline(value, **OFFERED, label="no link touched")
            for link, (marker, color, line) in LINKS.items():
                rows = table[table["link"] == link]
                axes.errorbar(
                    rows["period_s"], rows[name], yerr=rows[f"{name}_ci95"], marker=marker,
                    color=color, ls=line, ms=4, capsize=2, elinewidth=0.8,
                    label=link.replace("-", " and "),
                )  # fmt: skip
            axes.set_xscale("log")
            periods = sorted(period for period in table["period_s"].unique() if period)
            axes.set_xticks(periods, [f"{period:g}" for period in periods])
            axes.minorticks_off()
            axes.set_ylabel(words)
            half = table[f"{name}_ci95"].fillna(0)
            if name.endswith("percent"):
                # What is missed is little, and is what matters.
                least = (table[name] - half).min()
                axes.set_ylim(max(0, 10 * ((least - 5) // 10)), 101)
            else:
                axes.set_ylim(0, max(1, 1.1 * (table[name] + half).max()))
        for axes in panels[2:]:
            axes.set_xlabel("period of the flapping link (s)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, handlelength=3.5)
    return figure
