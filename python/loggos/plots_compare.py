"""Figures of the comparisons: each system in its own colour and with its own marker."""

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from loggos import faults, stats
from loggos.marks import of
from loggos.plots import (
    OFFERED,
    STYLE,
    SYSTEMS,
    WIDTH,
    Look,
    log_milliseconds,
    log_numbers,
    peaks,
    thousands,
)

BARS = {"capsize": 2, "elinewidth": 0.8, "ms": 4, "lw": 1.2}


def latency_throughput(points: pd.DataFrame) -> Figure:
    """Median and 99th percentile against achieved throughput, a ring around each knee."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        # Where there is no median there is a mean, and nothing for the tail.
        p50 = points["p50"].fillna(points["mean"])
        half = points["p50_half"].fillna(points["mean_half"])
        for axes, title, latency, halves in (
            (panels[0], "median", p50, half),
            (panels[1], "99th percentile", points["p99"], points["p99_half"]),
        ):
            for name, mine in points.groupby("system", sort=False):
                look = SYSTEMS[name]
                y, error = latency[mine.index], halves[mine.index]
                if y.isna().all():
                    continue
                closed = mine["offered"].isna().all()
                label = f"{look.label}, closed loop, mean" if closed else look.label
                axes.errorbar(
                    mine["achieved"], y, yerr=_log_error(y, error),
                    xerr=_log_error(mine["achieved"], mine["achieved_half"]),
                    label=label, **look.line(), **BARS,
                )  # fmt: skip
                knee = mine[mine["knee"]]
                axes.plot(
                    knee["achieved"], y[knee.index], "o", ms=10, mfc="none", mec=look.color, mew=1
                )
            axes.set_xscale("log")
            log_milliseconds(axes)
            # Intervals of few repetitions may be wider than all that they are about.
            axes.set_xlim(points["achieved"].min() / 2, points["achieved"].max() * 2)
            axes.set_ylim(p50.min() / 3, np.nanmax([p50, points["p99"]]) * 3)
            log_numbers(axes.xaxis, thousands)
            axes.set_title(title, loc="left")
            axes.set_xlabel("achieved operations per second")
        panels[0].set_ylabel("latency (ms)")
        _legend(figure, panels[0])
    return figure


def offered_achieved(points: pd.DataFrame) -> Figure:
    """Achieved against offered load, where load was offered."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
        axes = figure.subplots()
        opened = points[points["offered"].notna()]
        ends = [opened["offered"].min(), opened["offered"].max()]
        axes.plot(ends, ends, **OFFERED, label="all that is offered")
        for name, mine in opened.groupby("system", sort=False):
            look = SYSTEMS[name]
            axes.errorbar(
                mine["offered"], mine["achieved"], label=look.label,
                yerr=_log_error(mine["achieved"], mine["achieved_half"]), **look.line(), **BARS,
            )  # fmt: skip
        for scale, axis in ((axes.set_xscale, axes.xaxis), (axes.set_yscale, axes.yaxis)):
            scale("log")
            log_numbers(axis, thousands)
        axes.set_xlabel("offered operations per second")
        axes.set_ylabel("achieved operations per second")
        _legend(figure, axes)
    return figure


def distributions(points: pd.DataFrame, titles: dict[str, str]) -> Figure:
    """The share of operations that took at most so long, of `cdf.points`; a panel a load."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
        panels = figure.subplots(1, len(titles), sharey=True, squeeze=False)[0]
        for axes, (load, title) in zip(panels, titles.items(), strict=True):
            of_load = points[points["load"] == load]
            for name, mine in of_load.groupby("system", sort=False):
                look = SYSTEMS[name]
                marked = np.searchsorted(stats.SHARES, [0.25, 0.5, 0.75, 0.99]).tolist()
                style = look.line() | {"markevery": marked, "ms": 4}
                axes.plot(mine["ms"], mine["share"], label=look.label, **style)
            axes.set_xscale("log")
            log_numbers(axes.xaxis)
            axes.set_title(title, loc="left")
            axes.set_xlabel("latency (ms)")
        panels[0].set_ylabel("share of operations")
        panels[0].set_ylim(0, 1.01)
        _legend(figure, panels[0])
    return figure


def sizes(table: pd.DataFrame) -> Figure:
    """Throughput and latency against the number of nodes."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        p50 = table["p50"].fillna(table["mean"])
        half = table["p50_half"].fillna(table["mean_half"])
        for name, mine in table.groupby("system", sort=False):
            look = SYSTEMS[name]
            told = mine["p50"].notna().all()
            label = look.label if told else f"{look.label}, mean"
            error = _log_error(mine["achieved"], mine["achieved_half"])
            left.errorbar(
                mine["nodes"], mine["achieved"], yerr=error, label=label, **look.line(), **BARS
            )
            y = p50[mine.index]
            error = _log_error(y, half[mine.index])
            right.errorbar(mine["nodes"], y, yerr=error, **look.line(), **BARS)
        left.set_yscale("log")
        log_numbers(left.yaxis, thousands)
        _whole_decade(left)
        log_milliseconds(right)
        _whole_decade(right)
        left.set_ylabel("operations per second, closed loop")
        right.set_ylabel("median latency of one operation (ms)")
        for axes in (left, right):
            axes.set_xticks(sorted(table["nodes"].unique()))
            axes.set_xlabel("nodes")
        _legend(figure, left)
    return figure


def timelines(windows: pd.DataFrame, marks: pd.DataFrame) -> Figure:
    """Throughput over time of each system, a panel each: of `failover.windows` and
    `failover.marked`."""
    chosen = [name for name in SYSTEMS if name in set(windows["system"])]
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.5 + 1.25 * len(chosen)), layout="constrained")
        panels = figure.subplots(len(chosen), 1, sharex=True, squeeze=False)[:, 0]
        for axes, name in zip(panels, chosen, strict=True):
            mine = windows[windows["system"] == name]
            _timeline(axes, SYSTEMS[name], mine, marks[marks["system"] == name])
        panels[-1].set_xlabel("time since the load began (s)")
        figure.supylabel("replies per second", fontsize=8)
    return figure


def _timeline(axes: Axes, look: Look, windows: pd.DataFrame, marks: pd.DataFrame) -> None:
    seconds, rate = windows["at_s"], windows["per_second"]
    for span in of(marks, *faults.ENDS).itertuples():
        axes.axvspan(span.start_s, span.end_s, color="#000000", alpha=0.09, lw=0)
    axes.step(seconds, rate, where="mid", color=look.color, alpha=0.45, lw=0.8)
    axes.plot(seconds, stats.ewma(rate), color=look.color)
    mean = rate.mean()
    axes.axhline(mean, color=look.color, lw=0.8, ls=(0, (1, 2)))
    # The rush after an outage is cut off rather than let it flatten everything else.
    limit = max(1.8 * rate.median(), 1)
    axes.set_ylim(0, limit)
    axes.set_xlim(0, of(marks, "load")["end_s"].iloc[0])
    for x, y in peaks(seconds, rate, limit):
        axes.annotate(
            f"↑ {y:,.0f}", (x, limit), xytext=(3, -2), textcoords="offset points", va="top",
            fontsize=6.5, color=look.color,
        )  # fmt: skip
    for event in of(marks, "event").itertuples():
        axes.axvline(event.start_s, color="#555555", lw=0.7, zorder=1)
        axes.annotate(
            event.label, (event.start_s, 0), xytext=(3, 3), textcoords="offset points",
            fontsize=6.5,
            bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.7},
        )  # fmt: skip
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}"))
    axes.set_title(f"{look.label}: mean {mean:,.0f} per second", loc="left", fontsize=8)


def downtimes(found: pd.DataFrame) -> Figure:
    """Downtime of each repetition of each system at each event, and their mean with its t
    interval."""
    events = list(found["event"].unique())
    names = [name for name in SYSTEMS if name in set(found["system"])]
    with rc_context(STYLE):
        height = 0.9 + 0.17 * len(events) * (len(names) + 1)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots()
        for at, event in enumerate(events):
            for number, name in enumerate(names):
                rows = found[(found["event"] == event) & (found["system"] == name)]
                y = at * (len(names) + 1) + number
                look = SYSTEMS[name]
                values = rows["downtime_ms"]
                axes.plot(values, [y] * len(rows), "|", color=look.color, ms=7, mew=1, alpha=0.6)
                interval = stats.t_interval(values)
                label = look.label if at == 0 else None
                error = _log_error(pd.Series([interval["mean"]]), pd.Series([interval["half"]]))
                axes.errorbar(
                    interval["mean"], y, xerr=error, label=label, **(look.line() | BARS | {"lw": 0})
                )
        middle = (len(names) - 1) / 2
        axes.set_yticks([at * (len(names) + 1) + middle for at in range(len(events))], events)
        axes.set_ylim(len(events) * (len(names) + 1) - 1.3, -0.7)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.10g}"))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("longest time without a reply (ms)")
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        _legend(figure, axes)
    return figure


COSTS = {
    "cpu_us": "processor (µs)",
    "rss_mib": "memory (MiB)",
    "packets": "packets sent",
    "bytes": "bytes sent",
    "syncs": "syncs",
}


def costs(table: pd.DataFrame, load: str) -> Figure:
    """What an operation costs each system at one load, a panel for each measure."""
    mine = table[table["load"] == load].reset_index(drop=True)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.9 + 0.28 * len(mine)), layout="constrained")
        panels = figure.subplots(1, len(COSTS), sharey=True)
        for axes, (name, words) in zip(panels, COSTS.items(), strict=True):
            for row in mine.itertuples():
                look, value = SYSTEMS[row.system], getattr(row, name)
                if value > 0:
                    half = pd.Series([getattr(row, f"{name}_half")])
                    error = _log_error(pd.Series([value]), half)
                    axes.errorbar(value, row.Index, xerr=error, **(look.line() | BARS | {"ms": 5}))
                text = f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
                # A logarithmic axis has no place for nothing.
                at = (value, "data") if value > 0 else (0.04, "axes fraction")
                axes.annotate(
                    text, (at[0], row.Index), xycoords=(at[1], "data"), xytext=(0, 5),
                    textcoords="offset points", ha="center", fontsize=6.5,
                )  # fmt: skip
            axes.set_xscale("log")
            axes.margins(x=0.2)
            axes.set_title(words, loc="left", fontsize=8)
            axes.tick_params(axis="x", labelsize=6.5)
            log_numbers(axes.xaxis, thousands)
        panels[0].set_yticks(mine.index, [SYSTEMS[name].label for name in mine["system"]])
        panels[0].set_ylim(len(mine) - 0.4, -0.8)
        figure.supxlabel("of all nodes, an operation; memory: of the largest node", fontsize=7)
    return figure


def _log_error(values: pd.Series, halves: pd.Series) -> np.ndarray:
    """Distances down and up for a logarithmic axis, on which an interval must end above 0."""
    halves = halves.fillna(0)
    return np.vstack([np.minimum(halves, 0.9 * values), halves])


def _whole_decade(axes: Axes) -> None:
    """Labels at 1, 2 and 5, where an axis may be shorter than a decade."""
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))


def _legend(figure: Figure, axes: Axes) -> None:
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, columnspacing=1.4
    )
