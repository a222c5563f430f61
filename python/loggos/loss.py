"""The experiment `loss`: what loss, jitter and reordering between nodes cost."""

import json
from pathlib import Path

import pandas as pd

from loggos import plots, plots_loss, stretches
from loggos.runs import Run
from loggos.tables import markdown

SHAPE = ["delay_ms", "jitter_ms", "loss_percent", "reorder_percent"]
MEASURES = ["p50_ms", "p99_ms", "elections_per_minute", "closed_per_s"]


def loads(run: Run) -> pd.DataFrame:
    """A row for each time that a shape was set.

    Columns: the shape's, `repeat`; at a steady rate `p50_ms`, `p99_ms` and leaders that were
    elected, `elections_per_minute`; in a closed loop `closed_per_s` operations;
    `elections` in both.
    """
    leads = stretches.leads(run.path)
    lines = stretches.lines(run.path / "cells.jsonl")
    rows = []
    for (_, repeat), group in lines.groupby(["cell", "repeat"], sort=False):
        of = {line.load: line for line in group.itertuples()}
        count = {
            load: stretches.within(leads, line.begin_ns, line.end_ns) for load, line in of.items()
        }
        benches = {load: _benches(run, line.labels) for load, line in of.items()}
        latency = [bench["writes"]["latency_us"] for bench in benches["open"]]
        minutes = (of["open"].end_ns - of["open"].begin_ns) / 60e9
        rows.append(
            {
                **{name: getattr(of["open"], name) for name in SHAPE},
                "repeat": repeat,
                # The slowest of several generators speaks for all.
                "p50_ms": max(one["p50"] for one in latency) / 1e3,
                "p99_ms": max(one["p99"] for one in latency) / 1e3,
                "elections_per_minute": count["open"] / minutes,
                "closed_per_s": sum(bench["throughput"] for bench in benches["closed"]),
                "elections": sum(count.values()),
            }
        )
    return pd.DataFrame(rows)


def _benches(run: Run, labels: list[str]) -> list[dict]:
    return [json.loads((run.path / f"{label}.json").read_text()) for label in labels]


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each shape: the means of `n` repeats with half the width of their intervals, and
    the leaders elected in all of them, in both loads."""
    table = stretches.means(rows, SHAPE, MEASURES)
    sums = rows.groupby(SHAPE, sort=False)["elections"].sum()
    return table.assign(elections=sums.to_numpy())


def report(run: Run, figures: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table, and the parts of the page."""
    table = summary(loads(run))
    plots.save(plots_loss.loss(table), figures, "loss")
    return table, [
        f"**{table['elections'].sum()} leaders were elected that no fault asked for.**",
        "![Latency, throughput and elections](figures/loss.svg)",
        markdown(table, 1),
        "On the way from each node to each other one; clients' links are perfect. `p50_ms`, "
        f"`p99_ms`, `elections_per_minute` at {run.experiment['rate']:,} operations/s; "
        f"`closed_per_s`: a closed loop of {run.experiment['clients']} clients; `elections`: in "
        "both loads of all repeats, from the traces of the nodes. `_ci95` is half the width of the "
        "mean's t interval.",
    ]
