"""The figure of the experiment `loss`."""

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from loggos.plots import COLORS, STYLE, WIDTH, log_milliseconds

BARS = {"ms": 3.5, "capsize": 2, "elinewidth": 0.8}
# What is varied, in words; each begins with the shape that has none of them.
VARIED = {
    "loss_percent": "loss (%)",
    "jitter_ms": "jitter (±ms)",
    "reorder_percent": "reordered (%)",
}


def loss(table: pd.DataFrame) -> Figure:
    """Latency, throughput and elections against what is wrong with the links; bars show the 95 %
    interval of the mean."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.8), layout="constrained")
        panels = figure.subplots(3, len(VARIED), sharex="col", sharey="row")
        for column, (name, words) in enumerate(VARIED.items()):
            others = [other for other in VARIED if other != name]
            rows = table[(table[others] == 0).all(axis=1)]
            top, middle, bottom = panels[:, column]
            for measure, marker, label in (
                ("p50_ms", "o", "median"),
                ("p99_ms", "^", "99th percentile"),
            ):
                top.errorbar(
                    rows[name], rows[measure], yerr=rows[f"{measure}_ci95"], marker=marker,
                    color=COLORS[measure.removesuffix("_ms")], label=label, **BARS,
                )  # fmt: skip
            middle.errorbar(
                rows[name], rows["closed_per_s"] / 1e3, yerr=rows["closed_per_s_ci95"] / 1e3,
                marker="o", color=COLORS["throughput"], **BARS,
            )  # fmt: skip
            bottom.errorbar(
                rows[name], rows["elections_per_minute"], yerr=rows["elections_per_minute_ci95"],
                marker="o", color=COLORS["leader"], **BARS,
            )  # fmt: skip
            bottom.set_xlabel(words)
        log_milliseconds(panels[0, 0])
        panels[1, 0].set_ylim(0, 1.1e-3 * table["closed_per_s"].max())
        panels[2, 0].set_ylim(0, max(1, 1.1 * table["elections_per_minute"].max()))
        panels[0, 0].set_ylabel("latency (ms)")
        panels[1, 0].set_ylabel("closed loop\n(thousand operations/s)")
        panels[2, 0].set_ylabel("elections per minute\n(without any fault)")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure
