"""The figure of the comparison `mix`."""

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from loggos.plots import STYLE, SYSTEMS, WIDTH, log_milliseconds, log_numbers
from loggos.plots_reads import WAYS


def mixes(table: pd.DataFrame) -> Figure:
    """Throughput above, median latency of reads below, against the share of reads; a column for
    each skew."""
    skews = sorted(table["skew"].unique())
    shares = sorted(table["share"].unique())
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
        panels = figure.subplots(2, len(skews), sharex=True, sharey="row", squeeze=False)
        for column, skew in enumerate(skews):
            mine = table[table["skew"] == skew]
            for row, name in enumerate(("achieved", "read_p50_ms")):
                axes = panels[row, column]
                groups = mine.groupby(["system", "way"], sort=False)
                for number, ((system, way), rows) in enumerate(groups):
                    look = SYSTEMS[system]
                    style = look.line()
                    if way:
                        # All of them in the system's colour, which tells it from others.
                        marker, _, line = WAYS[way]
                        style |= {"marker": marker, "ls": line}
                    half = rows[f"{name}_half"].fillna(0)
                    # Shares of interest lie near the whole: each has as much room as the next.
                    axes.errorbar(
                        rows["share"].map(shares.index) + 0.06 * (number - (len(groups) - 1) / 2),
                        rows[name],
                        yerr=np.vstack([np.minimum(half, 0.9 * rows[name]), half]),
                        label=f"{look.label}, by {way}" if way else look.label,
                        ms=4, lw=1.2, capsize=2, elinewidth=0.8, **style,
                    )  # fmt: skip
            panels[0, column].set_title(
                f"Zipf {skew:g}" if skew else "uniform keys", loc="left", fontsize=8
            )
            panels[1, column].set_xticks(range(len(shares)), [f"{100 * it:g}" for it in shares])
            panels[1, column].set_xlabel("reads (%)")
        panels[0, 0].set_yscale("log")
        log_numbers(panels[0, 0].yaxis)
        log_milliseconds(panels[1, 0])
        panels[0, 0].set_ylabel("operations per second")
        panels[1, 0].set_ylabel("median latency of reads (ms)")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, handlelength=3)
    return figure
