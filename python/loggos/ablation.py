"""The comparison `ablation`: what each optimisation of Loggos is worth."""

from pathlib import Path

import pandas as pd

from loggos import cells, downtime, plots, plots_ablation
from loggos.cells import Cell
from loggos.runs import Run
from loggos.tables import kept, markdown

NOTHING = "nothing"
WORDS = {
    NOTHING: "everything on",
    "batching": "without batching",
    "pipelining": "without pipelining",
    "phase1_skip": "phase 1 each time",
    "group_commit": "without group commit",
    "all-four": "without all four",
    "quorum_connected_election": "without quorum-connected election",
}
CUT_BY = ["scenario", "nodes", "timeout_ms", "without"]


def speeds(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each that is left out and each closed loop: `under_way`, throughput and latencies
    with half-widths of their t intervals, and `times`, throughput by that with everything on."""
    rows = rows[rows["load"].str.startswith("closed-")]
    rows = in_order(rows, "without", list(WORDS))
    table = cells.intervals(rows, ["without", "load"], ["achieved", "p50", "p99"])
    table.insert(1, "under_way", table.pop("load").str.removeprefix("closed-").astype(int))
    whole = table[table["without"] == NOTHING].set_index("under_way")["achieved"]
    table["times"] = table["achieved"] / table["under_way"].map(whole)
    return table


def partitions(found: list[Cell], kinds: list[str]) -> pd.DataFrame:
    """Downtime in partial partitions of these kinds, with and without the quorum-connected
    election."""
    rows = in_order(downtime.cuts(found, ("without",)), "without", list(WORDS))
    return downtime.summary(in_order(rows, "scenario", kinds), CUT_BY)


def in_order(rows: pd.DataFrame, column: str, names: list[str]) -> pd.DataFrame:
    """The rows in the order of these names in a column, otherwise as they were."""
    return rows.sort_values(
        column, key=lambda values: values.map(names.index), kind="stable", ignore_index=True
    )


def report(run: Run, figures: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table, and the parts of the page."""
    table = speeds(cells.reports(run, ("without", "scenario")))
    kinds = [kind for kind, _ in run.experiment["kinds"]]
    cut = partitions(cells.load(run), kinds)
    bars = kept(cut, run.path, "cuts-summary")
    plots.save(plots_ablation.worth(table, bars, WORDS), figures, "ablation")
    return table, [
        "![What each optimisation is worth](figures/ablation.svg)",
        markdown(table, 2),
        "Closed loops of so many operations `under_way`: `achieved` operations a second, `p50` and "
        "`p99` in milliseconds, each the mean over the repetitions; `NAME_half`, and the bars: "
        "half its 95 % t interval. `times`: throughput by that with everything on. `all-four`: "
        "without all that is named above it, so one command a slot, one slot at a time, both "
        "phases and a sync of its own for each. Without pipelining the leader has one slot under "
        "way, which holds all that came meanwhile.",
        "## The quorum-connected election",
        markdown(downtime.shown(cut, CUT_BY)),
        downtime.EXPLAINED,
    ]
