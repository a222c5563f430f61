"""The experiment `timeouts`: false elections and downtime against the election timeout."""

from pathlib import Path

import pandas as pd

from loggos import plots, plots_timeouts, stats, stretches
from loggos.runs import Run
from loggos.tables import markdown

BY = ["round_trip_ms", "factor", "timeout_ms"]


def times(run: Run) -> pd.DataFrame:
    """A row for each repeat of each cluster.

    Columns: `round_trip_ms`, `factor` (timeout over round trip), `timeout_ms`, `repeat`; of a time
    without any fault `false_per_minute` (leaders elected) and `served_percent` (of windows of 100
    ms); `down_ms`, the longest time without a reply to clients of the nodes that live, from the
    death of a leader on, NaN if there was none that could die; `back`, whether it ended in time.
    """
    rows = []
    for folder in sorted(run.path.glob("*-nodes-rtt-*")):
        leads, operations = stretches.leads(folder), stats.succeeded(stretches.operations(folder))
        ends = operations["end_ns"].to_numpy()
        lines = stretches.lines(folder / "cells.jsonl")
        for _, group in lines.groupby("repeat", sort=False):
            calm = group[group["kind"] == "calm"].iloc[0]
            dead = group[group["kind"] == "death"].iloc[0]
            begin_ns, end_ns = int(calm["begin_ns"]), int(calm["end_ns"])
            row = {
                **{name: calm[name] for name in [*BY, "repeat"]},
                "false_per_minute": stretches.within(leads, begin_ns, end_ns)
                * 60e9
                / (end_ns - begin_ns),
                "served_percent": stretches.served_percent(ends, begin_ns, end_ns),
                "down_ms": float("nan"),
                "back": pd.isna(dead["leader"]),
            }
            if not pd.isna(dead["leader"]):
                alive = operations[operations["at"] != dead["leader"]]["end_ns"].to_numpy()
                gap = stats.longest_gap_of(alive, int(dead["death_ns"]), int(dead["end_ns"]))
                row |= {"down_ms": gap.length_ns / 1e6, "back": gap.recovered}
            rows.append(row)
    return pd.DataFrame(rows).sort_values([*BY, "repeat"], ignore_index=True)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each round trip and timeout: the means of `n` repeats with half the width of their
    intervals; `deaths`, how many leaders there were that could die, and `not_back`, how often
    nobody was served again while one was dead."""
    measures = ["false_per_minute", "served_percent", "down_ms"]
    table = stretches.means(rows, BY, measures)
    groups = rows.groupby(BY, sort=False)
    table["down_timeouts"] = table["down_ms"] / table["timeout_ms"]
    table["deaths"] = groups["down_ms"].count().to_numpy()
    table["not_back"] = (
        groups["back"].apply(lambda back: int((~back.astype(bool)).sum())).to_numpy()
    )
    return table


def report(run: Run, figures: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table, and the parts of the page."""
    table = summary(times(run))
    plots.save(plots_timeouts.timeouts(table), figures, "timeouts")
    quiet = table[table["false_per_minute"] == 0].groupby("round_trip_ms")["factor"].min()
    sentences = [
        f"At a round trip of {trip:g} ms the shortest election timeout without a false election "
        f"is {factor:g} round trips."
        for trip, factor in quiet.items()
    ]
    return table, [
        *([f"**{' '.join(sentences)}**"] if sentences else []),
        "![False elections, and downtime](figures/timeouts.svg)",
        markdown(table, 1),
        "`factor`: the election timeout in round trips between nodes. `false_per_minute`: leaders "
        "elected while nothing was wrong, from the traces of the nodes; `served_percent`: windows "
        "of 100 ms with a reply meanwhile. `down_ms`: the longest time without a reply to any "
        "client of a node that lives, from the death of the leader on (its links are cut and its "
        "process killed, so that the others must miss it); `down_timeouts`: the same in election "
        "timeouts. `deaths`: leaders that all followed, and that died; `not_back`: nobody was "
        "served before the dead one came back. `_ci95` is half the width of the mean's t interval.",
    ]
