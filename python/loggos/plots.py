"""Figures. Each function draws into a new figure and returns it; `save` writes SVG and PNG.
They bypass pyplot, which would keep every figure alive and show it a second time in a notebook.
The background is white, so that they are read on paper and on a dark page alike.

One thing has one colour in every figure (Okabe and Ito's palette, which colour-blind readers can
tell apart), and no meaning hangs on colour alone: lines differ in style and faults carry words.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullFormatter

from loggos import faults, stages, stats
from loggos.runs import Run
from loggos.trace import Kind

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


def timeline(run: Run, title: str | None = None) -> Figure:
    """Throughput and latency over time, who led, and what was done to the cluster."""
    start, end = run.load_ns
    rate = stats.throughput(run.operations, start, end)
    delay = stats.latency(run.operations, start, end)
    seconds = (rate["time_ns"] - start) / 1e9 + stats.WINDOW_NS / 2e9
    delay_seconds = (delay["time_ns"] - start) / 1e9 + stats.WINDOW_NS / 2e9
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.9), layout="constrained")
        top, middle, bottom = figure.subplots(
            3, 1, sharex=True, height_ratios=[3, 3, 0.32 * len(run.nodes)]
        )
        _label_faults(top, run)
        for axes in (top, middle):
            _shade_faults(axes, run)

        top.step(
            seconds, rate["per_second"], where="mid", color=COLORS["throughput"], alpha=0.45, lw=0.8
        )
        top.plot(seconds, stats.ewma(rate["per_second"]), color=COLORS["throughput"])
        offered = run.experiment.get("rate")
        if offered:
            top.axhline(offered, **OFFERED, zorder=1)
        # The rush of waiting requests after an outage may be many times the steady load. It is cut
        # off rather than let it flatten everything else; the arrow tells how high it went.
        limit = max(1.6 * rate["per_second"].median(), 1)
        top.set_ylim(0, limit)
        for x, y in peaks(seconds, rate["per_second"], limit):
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
            delay_seconds, delay["p99"], color=COLORS["p99"], lw=0.9, label="99th percentile"
        )
        middle.plot(
            delay_seconds, delay["p50"], ls="", marker=".", ms=2, color=COLORS["p50"], alpha=0.5
        )
        # Averaged as the axis is drawn, or one slow window would weigh for seconds.
        smooth = np.exp(stats.ewma(np.log(delay["p50"])))
        middle.plot(delay_seconds, smooth, color=COLORS["p50"], label="median, EWMA")
        log_milliseconds(middle)
        middle.set_ylabel("latency (ms)")

        _leader_strip(bottom, run)
        bottom.set_xlabel("time since the load began (s)")
        bottom.set_xlim(0, (end - start) / 1e9)

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
    Kind.PEER_DOWN: ("x", COLORS["failed"], "peer lost", 0),
    Kind.PEER_UP: ("+", COLORS["failed"], "peer back", 0),
    Kind.SCOUT_STARTED: (">", COLORS["cut"], "phase 1 begins", -0.25),
    Kind.PREEMPTED: ("v", COLORS["p99"], "preempted", 0.25),
    Kind.ADOPTED: ("*", COLORS["leader"], "adopted: leads", 0),
    Kind.LEADER_CHANGED: ("o", COLORS["throughput"], "follows the new leader", 0.25),
    Kind.NODE_STARTED: ("s", COLORS["pause"], "started", 0),
}


def election(run: Run, event: pd.Series, after_ms: float | None = None) -> Figure:
    """What each node recorded around one fault, and when clients got replies.

    Shows as much time as the outage asks for, or `after_ms` after the fault.
    """
    time_ns = int(event["time_ns"])
    gap = stats.longest_gap(run.operations, time_ns, time_ns + 2_000_000_000)
    first_ms, last_ms = (gap.start_ns - time_ns) / 1e6, (gap.end_ns - time_ns) / 1e6
    after_ms = after_ms or max(100, 1.8 * last_ms)
    before_ms = 0.2 * after_ms
    near = faults.around(run, time_ns, int(before_ms * 1e6), int(after_ms * 1e6))
    replies = (stats.succeeded(run.operations)["end_ns"] - time_ns) / 1e6
    replies = replies[replies.between(-before_ms, after_ms)]
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.1 + 0.4 * (len(run.nodes) + 1)), layout="constrained")
        axes = figure.subplots()
        for span in faults.leaders(run).itertuples():
            ends = [(span.start_ns - time_ns) / 1e6, (span.end_ns - time_ns) / 1e6]
            axes.hlines(span.node, *ends, color=COLORS["leader"], lw=6, alpha=0.35)
        for kind, (marker, color, words, below) in ELECTION_MARKS.items():
            rows = near[near["kind"] == kind]
            if len(rows):
                look = {"marker": marker, "color": color, "ms": 8 if marker == "*" else 5}
                axes.plot(rows["ms"], rows["node"] + below, ls="", label=words, **look)
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
        axes.set_title(f"{event['label']} at 0 ms", loc="left")
        axes.set_yticks([0, *run.nodes], ["clients", *[f"n{node}" for node in run.nodes]])
        axes.set_ylim(len(run.nodes) + 0.5, -0.6)
        axes.set_xlim(-before_ms, after_ms)
        axes.set_xlabel("time since the fault (ms)")
        axes.grid(axis="y", visible=False)
        figure.legend(loc="outside lower center", ncols=5, columnspacing=1.2, handletextpad=0.4)
    return figure


def stage_latency(requests: pd.DataFrame, title: str | None = None) -> Figure:
    """Where the time of a request goes: median, 5th to 95th percentile and 99th of each stage."""
    names = list(stages.STAGES)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
        axes = figure.subplots()
        for row, name in enumerate([*names, "latency_ns"]):
            values = requests[name].clip(lower=100) / 1e3
            low, median, high, tail = np.percentile(values, [5, 50, 95, 99])
            color = COLORS["stage"] if name != "latency_ns" else COLORS["p50"]
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
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.10g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
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
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.10g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _shade_faults(axes: Axes, run: Run) -> None:
    start = run.load_ns[0]
    for span in faults.spans(run).itertuples():
        color = COLORS.get(span.action, COLORS["kill"])
        axes.axvspan(
            (span.start_ns - start) / 1e9,
            (span.end_ns - start) / 1e9,
            color=color,
            alpha=0.13,
            lw=0,
        )
    for event in run.schedule.itertuples():
        axes.axvline((event.time_ns - start) / 1e9, color="#555555", lw=0.7, zorder=1)
    for won in faults.elections(run).itertuples():
        axes.axvline(
            (won.time_ns - start) / 1e9, color=COLORS["leader"], lw=1, ls=(0, (1, 1.5)), zorder=1
        )


def _label_faults(axes: Axes, run: Run) -> None:
    """A word above the axes at each event, in the place of a legend for the shades."""
    start, end = run.load_ns
    for event in run.schedule.itertuples():
        x = (event.time_ns - start) / 1e9
        if 0 <= x <= (end - start) / 1e9:
            axes.annotate(
                event.label,
                (x, 1),
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


def _leader_strip(axes: Axes, run: Run) -> None:
    """One bar for each node: alive (grey), leading (green), paused (hatched), dead (nothing)."""
    start, end = run.load_ns
    spans = faults.spans(run)
    height = 0.62
    for node in run.nodes:
        axes.broken_barh(
            [(0, (end - start) / 1e9)], (node - height / 2, height), color=COLORS["follower"]
        )
    leads = faults.leaders(run)
    for lead in leads[leads["end_ns"] > start].itertuples():
        first = max(lead.start_ns, start)
        axes.broken_barh(
            [((first - start) / 1e9, max(lead.end_ns - first, 0) / 1e9)],
            (lead.node - height / 2, height),
            color=COLORS["leader"],
        )
    for span in spans.itertuples():
        for node in span.nodes:
            place = [((span.start_ns - start) / 1e9, (span.end_ns - span.start_ns) / 1e9)]
            if span.action in ("kill", "stop"):
                axes.broken_barh(place, (node - height / 2, height), color="white")
                _say(axes, place[0], node, "dead")
            elif span.action == "pause":
                axes.broken_barh(
                    place,
                    (node - height / 2, height),
                    facecolor="white",
                    edgecolor=COLORS["pause"],
                    hatch="////",
                    lw=0,
                )
                _say(axes, place[0], node, "paused")
    axes.set_yticks(run.nodes, [f"n{node}" for node in run.nodes])
    axes.set_ylim(len(run.nodes) + 0.5, 0.5)
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
