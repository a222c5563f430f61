"""The comparison `failover`: how long each system is away when nodes crash and come back."""

from pathlib import Path

import pandas as pd

from loggos import cells, faults, marks, plots, plots_compare, stats
from loggos.cells import Cell
from loggos.runs import Run
from loggos.tables import kept, markdown

CALM = "no fault"


def events(schedule: list[dict]) -> list[str]:
    """What each event of a schedule is to its reader, without the node that it happened to."""
    names, victim = [], "node"
    for event in schedule:
        if event["action"] == "Kill":
            victim = event["role"]
            names.append(f"{victim} crashes")
        else:
            names.append(f"{victim} is back")
    return names


def downtimes(run: Run) -> pd.DataFrame:
    """A row for each event of each cell, and one for the calm before: `system`, `repeat`, `event`,
    and the columns of `faults.summary`."""
    names = [CALM, *events(run.experiment["schedule"])]
    frames = []
    for cell in cells.load(run):
        table = faults.summary(cell.run)
        table.insert(0, "system", cell.system)
        table.insert(1, "repeat", cell.repeat)
        table.insert(2, "event", names[: len(table)])
        frames.append(table)
    return pd.concat(frames, ignore_index=True)


def summary(found: pd.DataFrame, timeout_ms: float) -> pd.DataFrame:
    """A row for each event and system: downtime with its t interval, the longest one, how often it
    did not end before the next event, and operations of which nobody knows. A pause at the end of
    the time that was watched is no outage if it is shorter than an election timeout."""
    by = ["event", "system"]
    away = ~found["recovered"].astype(bool) & found["downtime_ms"].gt(timeout_ms)
    found = found.assign(away=away)
    order = {name: at for at, name in enumerate(found["event"].unique())}
    found = found.sort_values("event", kind="stable", key=lambda column: column.map(order))
    table = cells.intervals(found, by, ["downtime_ms", "mean_per_s"])
    rest = found.groupby(by, sort=False).agg(
        max_ms=("downtime_ms", "max"),
        not_back=("away", "sum"),
        unknown=("unknown", "sum"),
    )
    return table.merge(rest.reset_index(), on=by)


def first_repetitions(found: list[Cell]) -> list[Cell]:
    """Of each system the first repetition that ended well."""
    return list({cell.system: cell for cell in reversed(found)}.values())[::-1]


def windows(chosen: list[Cell]) -> pd.DataFrame:
    """Throughput of these cells over their loads: `system`, and of `stats.windows` `at_s` (seconds
    since its load began) and `per_second`."""
    frames = []
    for cell in chosen:
        frame = stats.windows(cell.run.operations, *cell.run.load_ns)[["at_s", "per_second"]]
        frame.insert(0, "system", cell.system)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def marked(chosen: list[Cell]) -> pd.DataFrame:
    """What was done to these cells when: `system`, and the columns of `marks`."""
    frames = []
    for cell in chosen:
        frame = marks.table(marks.of_schedule(cell.run), cell.run.load_ns[0])
        frame.insert(0, "system", cell.system)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def report(run: Run, figures: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table, and the parts of the page."""
    found = downtimes(run)
    chosen = first_repetitions(cells.load(run))
    over_time = kept(windows(chosen), run.path, "timeline-windows")
    seen = kept(marked(chosen), run.path, "timeline-marks")
    table = summary(found, run.experiment["election_timeout_ms"])
    plots.save(plots_compare.timelines(over_time, seen), figures, "timeline")
    each = kept(found, run.path, "downtimes")
    plots.save(plots_compare.downtimes(each), figures, "downtime")
    return table, [
        "![Throughput over time](figures/timeline.svg)",
        "Replies in windows of 100 ms (pale: each window; dark: moving average; dotted: mean) of "
        "the first repetition; shaded: a node is dead.",
        "![Downtime](figures/downtime.svg)",
        markdown(table),
        "Downtime: the longest time between two successful replies from the event to the next "
        "one, in milliseconds, from the clients' traces; `NAME_half`: half the 95 % t interval of "
        "the mean over the repetitions. Clients ask another node after "
        f"{run.experiment['op_timeout_ms']} ms without a reply, and at once if the connection "
        f"breaks; election timeout {run.experiment['election_timeout_ms']} ms.",
    ]
