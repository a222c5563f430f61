"""The figure: throughput and latency of all systems by the number of clients."""

from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from loggos.bench.systems import SYSTEMS
from loggos.plots import COLORS, STYLE, WIDTH, log_milliseconds, log_numbers
from loggos.plots import save as save_figure

# By system: marker, colour, line.
LOOKS = {
    "loggos": ("o", COLORS["throughput"], "-"),
    "etcd": ("s", COLORS["p50"], (0, (4, 2))),
    "redis": ("^", COLORS["leader"], (0, (1, 1))),
    "zookeeper": ("D", COLORS["p99"], (0, (5, 1, 1, 1))),
}
PREFIX = "puts-"


def points(loads: pd.DataFrame) -> pd.DataFrame:
    """The loads with one request in flight a client, with their `clients`."""
    number = loads["load"].str.removeprefix(PREFIX)
    chosen = loads["load"].str.startswith(PREFIX) & number.str.isdigit()
    return loads[chosen].assign(clients=number[chosen].astype(int)).sort_values("clients")


def can_draw(loads: pd.DataFrame) -> bool:
    """Whether there is a line to draw."""
    return points(loads)["clients"].nunique() > 1


def draw(loads: pd.DataFrame) -> Figure:
    """Throughput with its interval on the left, median and 99th percentile on the right."""
    rows = points(loads)
    clients = sorted(rows["clients"].unique())
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
        left, right = figure.subplots(1, 2)
        for name, (marker, color, line) in LOOKS.items():
            mine = rows[rows["system"] == name]
            if len(mine) == 0:
                continue
            look = {"color": color, "ls": line, "marker": marker, "ms": 4}
            rate = mine["throughput"] / 1e3
            # The interval is one of the mean, which may lie beside the median.
            low = (rate - mine["throughput_low"] / 1e3).clip(lower=0).fillna(0)
            high = (mine["throughput_high"] / 1e3 - rate).clip(lower=0).fillna(0)
            left.errorbar(mine["clients"], rate, yerr=[low, high], capsize=2, elinewidth=0.8,
                          label=SYSTEMS[name].label, **look)  # fmt: skip
            right.plot(mine["clients"], mine["p50_us"] / 1e3, **look)
            right.plot(mine["clients"], mine["p99_us"] / 1e3, color=color, lw=0.7, ls=line,
                       marker=marker, ms=4, mfc="white", mew=0.7)  # fmt: skip
        for axes in (left, right):
            axes.set_xscale("log", base=4)
            axes.set_xticks(clients, [str(each) for each in clients])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xlabel("clients, one request in flight each")
        left.set_yscale("log")
        # An interval that says nothing must not flatten the rest.
        medians = rows["throughput"] / 1e3
        left.set_ylim(medians.min() / 2, medians.max() * 2)
        log_numbers(left.yaxis)
        left.set_ylabel("puts (thousand per second)")
        log_milliseconds(right)
        right.set_ylabel("latency (ms)")
        right.set_title("filled: median, hollow: 99th percentile", loc="left")
        left.set_title("bars: 95 % interval", loc="left")
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, handlelength=4)
    return figure


def save(loads: pd.DataFrame, directory: Path) -> list[Path]:
    """Draws and writes it."""
    return save_figure(draw(loads), directory, "throughput")
