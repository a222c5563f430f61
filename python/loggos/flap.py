"""The experiment `flap`: who is served while a link goes down and comes back."""

from pathlib import Path

import pandas as pd

from loggos import plots, plots_flap, stats, stretches
from loggos.runs import Run
from loggos.tables import markdown

BY = ["link", "period_s"]
# An operation that took longer was not served.
BOUND_MS = 500
MEASURES = ["served_percent", "worst_percent", "in_time_percent", "elections_per_minute"]


def points(run: Run) -> pd.DataFrame:
    """A row for each stretch.

    Columns: `link`, `period_s`, `repeat`; the share of windows of 100 ms with a reply, to any
    client `served_percent` and to the one that had fewest `worst_percent`; of the operations due in
    it those answered within the bound, `in_time_percent`; `elections_per_minute`.
    """
    leads, operations = stretches.leads(run.path), stretches.operations(run.path)
    good = stats.succeeded(operations)
    ends = good["end_ns"].to_numpy()
    of_node = {node: rows["end_ns"].to_numpy() for node, rows in good.groupby("at")}
    rows = []
    for line in stretches.lines(run.path / "cells.jsonl").itertuples():
        begin_ns, end_ns = line.begin_ns, line.end_ns
        due = operations[operations["start_ns"].between(begin_ns, end_ns, inclusive="left")]
        in_time = stats.succeeded(due)["latency_ns"] <= BOUND_MS * 1e6
        shares = [stretches.served_percent(times, begin_ns, end_ns) for times in of_node.values()]
        rows.append(
            {
                "link": line.link,
                "period_s": line.period_s,
                "repeat": line.repeat,
                "served_percent": stretches.served_percent(ends, begin_ns, end_ns),
                "worst_percent": min(shares),
                "in_time_percent": 100 * in_time.sum() / len(due),
                "elections_per_minute": stretches.within(leads, begin_ns, end_ns)
                * 60e9
                / (end_ns - begin_ns),
            }
        )
    return pd.DataFrame(rows)


def report(run: Run, figures: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table, and the parts of the page."""
    table = stretches.means(points(run), BY, MEASURES)
    plots.save(plots_flap.flap(table), figures, "flap")
    return table, [
        "![Availability against the period of a flapping link](figures/flap.svg)",
        markdown(table, 2),
        "A link is down for half of each period, both ways; `none`: none was touched. Each node "
        "has a client of its own that talks to no other. `served_percent`: windows of 100 ms with "
        "a reply to any of them; `worst_percent`: to the one with fewest; `in_time_percent`: "
        f"operations answered within {BOUND_MS} ms of when they were due; `elections_per_minute`: "
        "from the traces of the nodes. Means of `n` stretches; `_ci95` is half the width of the t "
        "interval.",
    ]
