"""The comparison `recovery`: how long a node takes to come back, by the size of log and state."""

import json
from pathlib import Path

import pandas as pd

from loggos import cells, plots, plots_recovery
from loggos.cells import Cell
from loggos.runs import Run
from loggos.tables import markdown

STEPS = {
    "restart": "nothing written meanwhile: until it is level",
    "catch-up": "as much written meanwhile: until it is level",
    "snapshot": "behind a truncated log: until it is level",
    "repair": "4 KiB of its log zeroed: until it is repaired",
}
# What ends a step, in seconds from the start of the process.
ENDS = {
    "restart": "level_s",
    "catch-up": "level_s",
    "snapshot": "level_s",
    "repair": "repaired_s",
}
BY = ["step", "system", "state", "size_mib"]
MEASURES = ["seconds", "serving_s", "level_s", "disk_mib"]


def returns(found: list[Cell]) -> pd.DataFrame:
    """A row for each time that a node came back.

    Columns: `step`, `system`, `state`, `size_mib` that the cell wrote before its first step,
    `repeat`; `seconds` until what the step is about was there; `serving_s`, `level_s`; `disk_mib`
    that the node's directory took when it was started; `by_snapshot`, whether it took over a
    snapshot of another one.
    """
    rows = []
    for cell in found:
        for text in (cell.run.path / "recovery.jsonl").read_text().splitlines():
            line = json.loads(text)
            step = line["kind"]
            same = ("serving_s", "level_s", "disk_mib", "by_snapshot")
            rows.append(
                {
                    "step": step,
                    "system": cell.system,
                    "state": cell.changes["state"],
                    "size_mib": cell.changes["written_mib"],
                    "repeat": cell.repeat,
                    "seconds": line[ENDS[step]],
                    **{name: line[name] for name in same},
                }
            )
    return pd.DataFrame(rows)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each step, system, state and size: means over the repetitions with half-widths of
    their t intervals, and how many of them went by a snapshot."""
    order = {name: at for at, name in enumerate([*STEPS, *rows["system"].unique()])}
    rows = rows.sort_values(
        BY,
        key=lambda column: column.map(order) if column.name in ("step", "system") else column,
        kind="stable",
    )
    table = cells.intervals(rows, BY, MEASURES)
    by_snapshot = rows.groupby(BY, sort=False)["by_snapshot"].sum().astype(int)
    return table.merge(by_snapshot.reset_index(), on=BY)


def report(run: Run, figures: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table, and the parts of the page."""
    table = summary(returns(cells.load(run)))
    plots.save(plots_recovery.recovery(table, STEPS), figures, "recovery")
    names = ["n", "seconds", "seconds_half", "serving_s", "level_s", "disk_mib", "by_snapshot"]
    parts = ["![How long a node takes to come back](figures/recovery.svg)"]
    for step, mine in table.groupby("step", sort=False):
        parts += [f"{STEPS[step]}:", markdown(mine[[*BY[1:], *names]], 2)]
    rate, value = run.experiment["rate"], run.experiment["value_size"]
    parts.append(
        f"`size_mib`: mebibytes of values of {value:,} bytes that were written before the first "
        f"step, at {rate:,} operations/s, to 1,000 keys (state `small`) or to as many as "
        "writes (`large`), others in each step; a follower is killed with kill -9 and started, "
        "without load. `seconds`: from the start of its process until what the step is about was "
        "there, mean over the repetitions; `seconds_half`, and the bars: half its 95 % t interval. "
        "`serving_s`: until its port took connections (etcd's does long before it answers); "
        "`level_s`: until it said that it had applied all that others had when it was started. "
        "It is asked all the time; of Loggos each question takes some ten milliseconds, since a "
        "process asks. `disk_mib`: its directory at that moment. `by_snapshot`: in how many "
        "repetitions it took over a snapshot, as far as its log says so. Truncation and repair are "
        "of Loggos alone: the others are not told when to truncate, and none of them is meant to "
        "repair a damaged log from its peers (etcd's way is to "
        "replace the member). Loggos takes a snapshot whenever its log has grown by 256 MiB: from "
        "there on a node may catch up by one, and what damage takes may lie in its own."
    )
    return table, parts
