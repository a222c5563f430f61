"""The figure of the experiment `quorums`."""

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loggos.plots import COLORS, STYLE, WIDTH, log_milliseconds, spread

# By the size of the cluster; by whether disks are equal.
SIZES = {5: ("o", COLORS["throughput"]), 7: ("s", COLORS["p50"])}
LINES = {False: (0, (4, 2)), True: "-"}


def quorums(clusters: pd.DataFrame) -> Figure:
    """Latency and throughput against the size of the phase-2 quorum; bars show the range of the
    repeats."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        for axes, name, scale in (
            (left, "p50_ms", 1), (middle, "p99_ms", 1), (right, "achieved", 1e-3),
        ):  # fmt: skip
            for (slower_ms, nodes), rows in clusters.groupby(["slower_ms", "nodes"]):
                marker, color = SIZES[nodes]
                disks = f"each disk {slower_ms} ms slower" if slower_ms else "equal disks"
                axes.errorbar(
                    rows["q2"], rows[name] * scale, yerr=spread(rows, name, scale), marker=marker,
                    color=color, ls=LINES[slower_ms > 0], ms=4, capsize=2, elinewidth=0.8,
                    label=f"{nodes} nodes, {disks}",
                )  # fmt: skip
            _sizes(axes, clusters)
        log_milliseconds(left)
        log_milliseconds(middle)
        right.set_ylim(bottom=0)
        left.set_ylabel("median latency (ms)")
        middle.set_ylabel("99th percentile (ms)")
        right.set_ylabel("closed loop (thousand operations/s)")
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, handlelength=4.5)
    return figure


def _sizes(axes: Axes, clusters: pd.DataFrame) -> None:
    axes.set_xticks(sorted(clusters["q2"].unique()))
    axes.set_xlabel("phase-2 quorum (q2)")
