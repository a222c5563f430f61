"""The figure of the experiment `calibration`."""

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loggos.plots import COLORS, OFFERED, STYLE, WIDTH, log_milliseconds

BARS = {"marker": "o", "ms": 3.5, "capsize": 2, "elinewidth": 0.8}


def calibration(table: pd.DataFrame, carried: pd.DataFrame) -> Figure:
    """What was measured against what was asked for, a panel for each property; bars show the 95 %
    interval of the mean."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
        panels = figure.subplots(2, 3)
        plain = table.query("jitter_ms == 0 and loss_percent == 0 and reorder_percent == 0")
        axes = panels[0, 0]
        axes.errorbar(
            plain["delay_ms"], 1000 * (plain["measured_ms"] - plain["delay_ms"]),
            yerr=1000 * plain["measured_ms_ci95"], color=COLORS["throughput"], ls="", **BARS,
        )  # fmt: skip
        axes.set_xscale("symlog", linthresh=0.1)
        axes.set_xlim(left=-0.02)
        axes.set_xticks([0, 0.1, 1, 10, 100], ["0", "0.1", "1", "10", "100"])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_xlabel("delay asked for (ms)")
        axes.set_ylabel("measured longer by (µs)")

        _against(panels[0, 1], table, "jitter_ms", "spread_ms", "jitter", "(±ms)")
        _against(panels[0, 2], table, "loss_percent", "lost_percent", "loss", "(%)")
        _against(panels[1, 0], table, "reorder_percent", "overtook_percent", "reordering", "(%)")

        lossless = carried[carried["loss_percent"] == 0]
        lossy = carried[carried["loss_percent"] > 0]
        for axes, rows, name, words in (
            (panels[1, 1], lossless, "delay_ms", "delay, each way (ms)"),
            (panels[1, 2], lossy, "loss_percent", "loss (%), delay 5 ms each way"),
        ):
            axes.errorbar(
                rows[name], rows["mbit_s"], yerr=rows["mbit_s_ci95"], color=COLORS["p50"], **BARS
            )
            axes.set_xlim(left=0)
            axes.set_xlabel(words)
            axes.set_ylabel("TCP (Mbit/s)")
        panels[1, 1].set_ylim(bottom=0)
        # From hundreds to a few.
        log_milliseconds(panels[1, 2])
    return figure


def _against(axes: Axes, table: pd.DataFrame, asked: str, found: str, name: str, unit: str) -> None:
    """Measured against asked, and the line where they are the same."""
    rows = table[table[asked] > 0]
    most = rows[asked].max()
    axes.plot([0, most], [0, most], **OFFERED)
    axes.errorbar(
        rows[asked], rows[found], yerr=rows[f"{found}_ci95"], color=COLORS["throughput"], ls="",
        **BARS,
    )  # fmt: skip
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"{name} asked for {unit}")
    axes.set_ylabel(f"measured {unit}")
