"""Figures. Each function draws into a new figure and returns it; `save` writes SVG and PNG.
They bypass pyplot, which would keep every figure alive and show it a second time in a notebook.
The background is white, so that they are read on paper and on a dark page alike.

One thing has one colour in every figure (Okabe and Ito's palette, which colour-blind readers can
tell apart), and no meaning hangs on colour alone: lines differ in style and faults carry words.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from loggos import faults, stages, stats
from loggos.marks import of

# A logarithmic axis over less than so many times its begin has numbers within a decade, too.
TIMES_FEW = 30
COLORS = {
    "throughput": "#0072B2",
    "offered": "#7F7F7F",
    "p50": "#D55E00",
    "p99": "#CC79A7",
    "leader": "#009E73",
    "follower": "#C9D6DF",
    "failed": "#000000",
    "kill": "#D55E00",
    "cut": "#E69F00",
    "pause": "#56B4E9",
    "stage": "#0072B2",
}


@dataclass(frozen=True)
class Look:
    """How a system looks in every figure. Hollow and dashed: what it did may be lost with power."""

    label: str
    color: str
    marker: str
    durable: bool = True

    def line(self) -> dict:
        """For a line with markers."""
        face = self.color if self.durable else "white"
        style = "-" if self.durable else (0, (4, 2))
        return {"color": self.color, "marker": self.marker, "markerfacecolor": face, "ls": style}


SYSTEMS = {
    "loggos": Look("Loggos", "#0072B2", "o"),
    "loggos-split": Look("Loggos, roles apart", "#56B4E9", "P"),
    "etcd": Look("etcd", "#D55E00", "s"),
    "omnipaxos": Look("OmniPaxos (memory)", "#E69F00", "v", durable=False),
    "omnipaxos-durable": Look("OmniPaxos", "#009E73", "^"),
    "libpaxos": Look("LibPaxos (memory)", "#882255", "d", durable=False),
    "libpaxos-lmdb": Look("LibPaxos (LMDB)", "#CC79A7", "D"),
    "redis": Look("Redis (1 node)", "#555555", "X"),
}

OFFERED = {"color": COLORS["offered"], "lw": 0.8, "ls": (0, (4, 3))}

# Room for two columns of a printed page; letters stay legible when it is scaled to one.
WIDTH = 7.2

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "lines.linewidth": 1.4,
    "savefig.dpi": 200,
    # Text stays text, and the same data give the same file.
    "svg.fonttype": "none",
    "svg.hashsalt": "loggos",
}


def save(figure: Figure, directory: str | Path, name: str) -> list[Path]:
    """Writes `name.svg` and `name.png` and closes the figure."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{name}.svg", directory / f"{name}.png"]
    with rc_context(STYLE):
        figure.savefig(paths[0], metadata={"Date": None})
        figure.savefig(paths[1])
    return paths


def timeline(
    windows: pd.DataFrame,
    marks: pd.DataFrame,
    offered: float | None = None,
    title: str | None = None,
) -> Figure:
    """Throughput and latency over time, who led, and what was done to the cluster: of
    `timeline.windows` and `timeline.marked`."""
    seconds, rate = windows["at_s"], windows["per_second"]
    nodes = list(of(marks, "node")["node"])
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.9), layout="constrained")
        top, middle, bottom = figure.subplots(
            3, 1, sharex=True, height_ratios=[3, 3, 0.32 * len(nodes)]
        )
        _label_faults(top, marks)
        for axes in (top, middle):
            _shade_faults(axes, marks)

        top.step(seconds, rate, where="mid", color=COLORS["throughput"], alpha=0.45, lw=0.8)
        top.plot(seconds, stats.ewma(rate), color=COLORS["throughput"])
        if offered:
            top.axhline(offered, **OFFERED, zorder=1)
        # The rush of waiting requests after an outage may be many times the steady load. It is cut
        # off rather than let it flatten everything else; the arrow tells how high it went.
        limit = max(1.6 * rate.median(), 1)
        top.set_ylim(0, limit)
        for x, y in peaks(seconds, rate, limit):
            top.annotate(
                f"↑ {y:,.0f}",
                (x, limit),
                xytext=(3, -2),
                textcoords="offset points",
                va="top",
                fontsize=6.5,
                color=COLORS["throughput"],
            )
        top.set_ylabel("replies per second")
        top.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}"))

        middle.plot(
            seconds, windows["p99_ms"], color=COLORS["p99"], lw=0.9, label="99th percentile"
        )
        middle.plot(
            seconds, windows["p50_ms"], ls="", marker=".", ms=2, color=COLORS["p50"], alpha=0.5
        )
        # Averaged as the axis is drawn, or one slow window would weigh for seconds.
        smooth = np.exp(stats.ewma(np.log(windows["p50_ms"])))
        middle.plot(seconds, smooth, color=COLORS["p50"], label="median, EWMA")
        log_milliseconds(middle)
        middle.set_ylabel("latency (ms)")

        _leader_strip(bottom, marks)
        bottom.set_xlabel("time since the load began (s)")
        bottom.set_xlim(0, of(marks, "load")["end_s"].iloc[0])

        line = partial(Line2D, [], [])
        blue = COLORS["throughput"]
        handles = [
            line(color=blue, label="throughput, EWMA"),
            line(color=blue, alpha=0.45, lw=0.8, label="in windows of 100 ms"),
            *([line(**OFFERED, label="offered")] if offered else []),
            *middle.get_legend_handles_labels()[0],
            Patch(color=COLORS["leader"], label="leads"),
            Patch(color=COLORS["follower"], label="follows"),
            line(color=COLORS["leader"], lw=1, ls=(0, (1, 1.5)), label="new leader"),
        ]
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=4,
            columnspacing=1.6,
            handlelength=1.8,
        )
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=9.5, fontweight="bold")
    return figure


# An election's records: marker, colour, words, and how far above the node's line it is drawn.
# Phase 1 takes less than a millisecond on a LAN, and the three would hide each other.
ELECTION_MARKS = {
    "peer_down": ("x", COLORS["failed"], "peer lost", 0),
    "peer_up": ("+", COLORS["failed"], "peer back", 0),
    "scout_started": (">", COLORS["cut"], "phase 1 begins", -0.25),
    "preempted": ("v", COLORS["p99"], "preempted", 0.25),
    "adopted": ("*", COLORS["leader"], "adopted: leads", 0),
    "leader_changed": ("o", COLORS["throughput"], "follows the new leader", 0.25),
    "node_started": ("s", COLORS["pause"], "started", 0),
}


def election(marks: pd.DataFrame) -> Figure:
    """What each node recorded around one fault, and when clients got replies: of
    `timeline.election`."""
    whole, gap = of(marks, "load").iloc[0], of(marks, "gap").iloc[0]
    first_ms, last_ms = gap["start_ms"], gap["end_ms"]
    replies = of(marks, "reply")["start_ms"]
    nodes = list(of(marks, "node")["node"])
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.1 + 0.4 * (len(nodes) + 1)), layout="constrained")
        axes = figure.subplots()
        for span in of(marks, "leads").itertuples():
            ends = (span.start_ms, span.end_ms)
            axes.hlines(span.node, *ends, color=COLORS["leader"], lw=6, alpha=0.35)
        for kind, (marker, color, words, below) in ELECTION_MARKS.items():
            rows = of(marks, kind)
            if len(rows):
                look = {"marker": marker, "color": color, "ms": 8 if marker == "*" else 5}
                axes.plot(rows["start_ms"], rows["node"] + below, ls="", label=words, **look)
        look = {"marker": "|", "color": COLORS["p50"], "ms": 7, "mew": 0.7}
        axes.plot(replies, np.zeros(len(replies)), ls="", label="reply to a client", **look)
        axes.annotate(
            "",
            (first_ms, 0),
            (last_ms, 0),
            arrowprops={"arrowstyle": "<->", "lw": 0.8, "shrinkA": 1, "shrinkB": 1},
        )
        axes.annotate(
            f"{last_ms - first_ms:.0f} ms",
            ((first_ms + last_ms) / 2, 0),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=7,
        )
        axes.axvline(0, color=COLORS["failed"], lw=1)
        axes.set_title(f"{whole['label']} at 0 ms", loc="left")
        axes.set_yticks([0, *nodes], ["clients", *[f"n{node}" for node in nodes]])
        axes.set_ylim(len(nodes) + 0.5, -0.6)
        axes.set_xlim(whole["start_ms"], whole["end_ms"])
        axes.set_xlabel("time since the fault (ms)")
        axes.grid(axis="y", visible=False)
        figure.legend(loc="outside lower center", ncols=5, columnspacing=1.2, handletextpad=0.4)
    return figure


def stage_latency(table: pd.DataFrame, title: str | None = None) -> Figure:
    """Where the time of a request goes: median, 5th to 95th percentile and 99th of each stage, of
    `stages.quantiles`."""
    names = list(stages.STAGES)
    quantiles = table.set_index("stage")[["p5_us", "p50_us", "p95_us", "p99_us"]]
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
        axes = figure.subplots()
        for row, name in enumerate([*names, "total"]):
            # A logarithmic axis has no place for nothing.
            low, median, high, tail = quantiles.loc[name].clip(lower=0.1)
            color = COLORS["stage"] if name != "total" else COLORS["p50"]
            axes.hlines(row, low, high, color=color, lw=5, alpha=0.3)
            axes.plot(median, row, "o", color=color, ms=5)
            axes.plot(tail, row, "|", color=color, ms=9, mew=1.5)
            axes.annotate(
                f"{median:,.0f}",
                (median, row),
                xytext=(0, 5),
                textcoords="offset points",
                ha="center",
                fontsize=6.5,
                color=color,
            )
        labels = [f"{name}: {stages.STAGES[name]}" for name in names]
        axes.set_yticks(range(len(names) + 1), [*labels, "total, as the client saw it"])
        axes.set_ylim(len(names) + 0.5, -0.7)
        axes.set_xscale("log")
        log_numbers(axes.xaxis)
        axes.set_xlabel("microseconds (dot: median; bar: 5th to 95th percentile; tick: 99th)")
        axes.grid(axis="y", visible=False)
        if title:
            axes.set_title(title, loc="left")
    return figure


def peaks(x: pd.Series, y: pd.Series, limit: float) -> list[tuple[float, float]]:
    """The highest point of each group that goes beyond the limit; one word has room for each."""
    above = pd.DataFrame({"x": x, "y": y})[y > limit]
    group = (above["x"].diff() > (x.max() - x.min()) / 20).cumsum()
    return [(rows["x"].max(), rows["y"].max()) for _, rows in above.groupby(group)]


def spread(points: pd.DataFrame, name: str, scale: float = 1) -> np.ndarray:
    """How far the lowest and the highest repeat are from the point."""
    low, middle, high = (points[f"{name}{end}"] * scale for end in ("_low", "", "_high"))
    return np.vstack([middle - low, high - middle])


def log_milliseconds(axes: Axes) -> None:
    """A logarithmic axis of latencies with whole numbers."""
    axes.set_yscale("log")
    log_numbers(axes.yaxis)


def log_numbers(axis: Axis, words: Callable[[float], str] = "{:,.10g}".format) -> None:
    """Numbers instead of powers on a logarithmic axis: of each decade the first, and 2 and 5 where
    there are few decades."""

    def minor(value: float, _position: int) -> str:
        low, high = axis.get_view_interval()
        digit = round(value / 10 ** np.floor(np.log10(value)))
        return words(value) if high < TIMES_FEW * low and digit in (2, 5) else ""

    axis.set_major_formatter(FuncFormatter(lambda value, _: words(value)))
    axis.set_minor_formatter(FuncFormatter(minor))
    axis.set_tick_params(which="minor", labelsize=6.5)


def thousands(value: float) -> str:
    """With a k from a thousand on."""
    return f"{value / 1000:,.10g} k" if value >= 1000 else f"{value:,.10g}"


def _shade_faults(axes: Axes, marks: pd.DataFrame) -> None:
    for span in of(marks, *faults.ENDS).itertuples():
        color = COLORS.get(span.what, COLORS["kill"])
        axes.axvspan(span.start_s, span.end_s, color=color, alpha=0.13, lw=0)
    for event in of(marks, "event").itertuples():
        axes.axvline(event.start_s, color="#555555", lw=0.7, zorder=1)
    for won in of(marks, "elected").itertuples():
        axes.axvline(won.start_s, color=COLORS["leader"], lw=1, ls=(0, (1, 1.5)), zorder=1)


def _label_faults(axes: Axes, marks: pd.DataFrame) -> None:
    """A word above the axes at each event, in the place of a legend for the shades."""
    end = of(marks, "load")["end_s"].iloc[0]
    for event in of(marks, "event").itertuples():
        if 0 <= event.start_s <= end:
            axes.annotate(
                event.label,
                (event.start_s, 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, 3),
                textcoords="offset points",
                rotation=28,
                rotation_mode="anchor",
                fontsize=7,
                ha="left",
                va="bottom",
                annotation_clip=False,
            )


def _leader_strip(axes: Axes, marks: pd.DataFrame) -> None:
    """One bar for each node: alive (grey), leading (green), paused (hatched), dead (nothing)."""
    paused = {"facecolor": "white", "edgecolor": COLORS["pause"], "hatch": "////", "lw": 0}
    looks = {
        "node": {"color": COLORS["follower"]},
        "leads": {"color": COLORS["leader"]},
        "dead": {"color": "white"},
        "paused": paused,
    }
    height = 0.62
    for what, look in looks.items():
        for span in of(marks, what).itertuples():
            place = (span.start_s, max(span.end_s - span.start_s, 0))
            axes.broken_barh([place], (span.node - height / 2, height), **look)
            if what in ("dead", "paused"):
                _say(axes, place, span.node, what)
    nodes = list(of(marks, "node")["node"])
    axes.set_yticks(nodes, [f"n{node}" for node in nodes])
    axes.set_ylim(len(nodes) + 0.5, 0.5)
    axes.grid(visible=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _say(axes: Axes, place: tuple[float, float], node: int, word: str) -> None:
    axes.text(
        place[0] + place[1] / 2,
        node,
        word,
        ha="center",
        va="center",
        fontsize=6.5,
        color="#333333",
        bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none"},
    )
