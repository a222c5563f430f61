"""The chapter on links: distance, loss, and whether the laboratory makes them as asked."""

import pandas as pd
from matplotlib.figure import Figure

from loggos import plots_calibration, plots_loss, plots_wan
from loggos.report.entry import Entry, Published
from loggos.report.faults import MEAN_CI
from loggos.report.short import columns

MEASURED = "measured_ms"


def _calibration(published: Published) -> pd.DataFrame:
    names = {
        "delay_ms": "delay ms", "jitter_ms": "± ms", "loss_percent": "loss %",
        "reorder_percent": "reordered %", MEASURED: "measured ms", "lost_percent": "lost %",
        "overtook_percent": "overtook %", "as_asked": "as asked",
    }  # fmt: skip
    table = published.csv()
    return columns(table[table[MEASURED].notna()], names)


def _draw_calibration(published: Published) -> Figure:
    # One table for both: packets have a delay, streams a throughput.
    table = published.csv()
    packets = table[MEASURED].notna()
    return plots_calibration.calibration(table[packets], table[~packets])


def _wan(published: Published) -> pd.DataFrame:
    names = {
        "leader": "leader", "operation": "operation", "region": "region", "n": "n",
        "p50_ms": "p50 ms", "p99_ms": "p99 ms", "floor_ms": "floor ms",
    }  # fmt: skip
    return columns(published.csv(), names)


def _loss(published: Published) -> pd.DataFrame:
    names = {
        "delay_ms": "delay ms", "jitter_ms": "± ms", "loss_percent": "loss %",
        "reorder_percent": "reordered %", "p50_ms": "p50 ms", "p99_ms": "p99 ms",
        "closed_per_s": "closed loop/s", "elections": "elections",
    }  # fmt: skip
    return columns(published.csv(), names)


CALIBRATION = Entry(
    name="calibration",
    title="Are links as they were asked for?",
    shows="Delay, jitter, loss, order and throughput of the emulated links, measured against what "
    "was asked of them. All other experiments with shaped links rest on it.",
    unfair="No cluster is measured here. All hosts have one clock, so a delay one way can be "
    "measured; between real machines it could not.",
    interval=MEAN_CI,
    table=_calibration,
    needs=("as_asked", "mbit_s_ci95"),
    figures={"calibration": "What was measured against what was asked for"},
    draw={"calibration": _draw_calibration},
)

WAN = Entry(
    name="wan",
    title="Regions far apart",
    shows="Latency of writes and of each way of reads by region, in five regions of a public "
    "cloud, beside the round trips that nothing can avoid.",
    unfair="Loggos alone; distances are those that a published evaluation uses, delays are "
    "emulated and constant, and links lose nothing.",
    interval=MEAN_CI,
    table=_wan,
    needs=("region", "floor_ms", "p50_ms_ci95"),
    figures={"latency": "Latency by region"},
    draw={"latency": lambda it: plots_wan.latency(it.csv("latency-points"))},
    tables={"latency": ("latency-points",)},
)

LOSS = Entry(
    name="loss",
    title="Loss, jitter and reordering",
    shows="Elections that no fault asked for, latency and throughput when links between nodes "
    "lose, delay and reorder packets.",
    unfair="Loggos alone, by TCP, whose congestion control takes loss for a full link; clients' "
    "links are perfect.",
    interval=MEAN_CI,
    table=_loss,
    needs=("closed_per_s_ci95", "elections"),
    figures={"loss": "Latency, throughput and elections"},
    draw={"loss": lambda it: plots_loss.loss(it.csv())},
)

ENTRIES = (CALIBRATION, WAN, LOSS)
