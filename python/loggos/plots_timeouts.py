"""The figure of the experiment `timeouts`."""

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from loggos.plots import COLORS, STYLE, WIDTH, log_milliseconds

# By the round trip, in their order.
TRIPS = [("o", COLORS["throughput"], "-"), ("s", COLORS["p50"], (0, (4, 2)))]
BARS = {"ms": 4, "capsize": 2, "elinewidth": 0.8}


def timeouts(table: pd.DataFrame) -> Figure:
    """False elections, service meanwhile, and downtime against the timeout in round trips; bars
    show the 95 % interval of the mean."""
    measures = {
        "false_per_minute": "false elections per minute",
        "served_percent": "windows with service,\nnothing wrong (%)",
        "down_ms": "downtime after the\nleader's death (ms)",
    }
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
        panels = figure.subplots(1, len(measures))
        factors = sorted(table["factor"].unique())
        for axes, (name, words) in zip(panels, measures.items(), strict=True):
            for (marker, color, line), (trip, rows) in zip(
                TRIPS, table.groupby("round_trip_ms"), strict=False
            ):
                axes.errorbar(
                    rows["factor"], rows[name], yerr=rows[f"{name}_ci95"], marker=marker,
                    color=color, ls=line, label=f"round trip {trip:g} ms", **BARS,
                )  # fmt: skip
            axes.set_xscale("log")
            axes.set_xticks(factors, [f"{factor:g}" for factor in factors])
            axes.minorticks_off()
            axes.set_xlabel("election timeout (round trips)")
            axes.set_ylabel(words)
        panels[0].set_ylim(bottom=0)
        panels[1].set_ylim(0, 105)
        log_milliseconds(panels[2])
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, handlelength=3.5)
    return figure
