"""Marks of a figure over time: moments and spans that it names or shades, as a table.

A row each, columns `what`, `label` (the words beside it, mostly none), `node` (0 where it is of no
one node), and `start_s` and `end_s`, seconds since the time that the figure begins with; a moment
ends where it starts. Around a single fault they are `start_ms` and `end_ms`, milliseconds since it.

`load` is what the figure shows in all. Of a schedule of faults there are each `event` and what was
wrong from when to when (`kill`, `stop`, `cut`, `pause`); of nodes each `node` with the times in
which it `leads`, or is `dead` or `paused`, and when one was `elected`.
"""

from collections.abc import Iterable

import pandas as pd

from loggos import faults
from loggos.runs import Run

UNITS = {"s": 1e9, "ms": 1e6}
# What, label, node, start and end in nanoseconds.
Row = tuple[str, str, int, int, int]


def table(rows: Iterable[Row], origin_ns: int, unit: str = "s") -> pd.DataFrame:
    """These rows, their times in this unit since the origin."""
    frame = pd.DataFrame(list(rows), columns=["what", "label", "node", "start", "end"])
    for name in ("start", "end"):
        frame[f"{name}_{unit}"] = (frame.pop(name) - origin_ns) / UNITS[unit]
    return frame


def of_schedule(run: Run) -> list[Row]:
    """The load, the events of the schedule, and what was wrong from when to when."""
    start, end = run.load_ns
    events = [("event", it.label, 0, it.time_ns, it.time_ns) for it in run.schedule.itertuples()]
    wrong = [
        (it.action, it.label, 0, it.start_ns, it.end_ns) for it in faults.spans(run).itertuples()
    ]
    return [("load", "", 0, start, end), *events, *wrong]


def of_nodes(run: Run) -> list[Row]:
    """What each node was when, while there was load, and who was elected."""
    start, end = run.load_ns
    rows = [("node", "", node, start, end) for node in run.nodes]
    for it in faults.leaders(run).itertuples():
        if it.end_ns > start:
            rows.append(("leads", "", it.node, max(it.start_ns, start), it.end_ns))
    words = {"kill": "dead", "stop": "dead", "pause": "paused"}
    for it in faults.spans(run).itertuples():
        if it.action in words:
            rows += [(words[it.action], "", node, it.start_ns, it.end_ns) for node in it.nodes]
    won = faults.elections(run).itertuples()
    return [*rows, *(("elected", "", it.node, it.time_ns, it.time_ns) for it in won)]


def of(marks: pd.DataFrame, *what: str) -> pd.DataFrame:
    """The marks of these kinds."""
    return marks[marks["what"].isin(what)]
