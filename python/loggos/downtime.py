"""The comparison `downtime`: for how long a partial partition stops each system."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from loggos import cells, partition, plots, plots_downtime
from loggos.cells import Cell
from loggos.runs import Run
from loggos.tables import markdown

# Service counts as there in a window of this length if any client had a reply in it.
WINDOW_NS = 100_000_000


def cuts(found: list[Cell], names: tuple[str, ...] = ()) -> pd.DataFrame:
    """A row for each cell with a cut, with its parameters of these names.

    Columns: `scenario`, `nodes`, `timeout_ms`, `system`, `repeat`; `downtime_ms`, from the cut
    until any client was served, and `all_ms`, until the last one was, of those whose node has a
    whole link to another; `cut_ms`, for how long links were cut; `back`, whether service was before
    they were healed; `served_percent`, of windows of 100 ms in the cut with a reply to any client.
    """
    with_cut = [cell for cell in found if (cell.run.path / "cuts.jsonl").exists()]
    parameters = ({name: cell.run.experiment[name] for name in names} for cell in with_cut)
    return pd.DataFrame(
        [more | _row(cell) for cell, more in zip(with_cut, parameters, strict=True)]
    )


def _row(cell: Cell) -> dict:
    lines = (cell.run.path / "cuts.jsonl").read_text().splitlines()
    # Those before it were disturbed.
    line = json.loads(lines[-1])
    timeout_ms = line["election_timeout_ms"]
    replies = partition.replies_of(cell.run.path)
    ends = replies["end_ns"].to_numpy()
    course = pd.Series(line)

    def away(times: np.ndarray) -> dict:
        return partition.away(times, course, timeout_ms * 1_000_000)

    service = away(ends)
    clients = [away(ends[(replies["node"] == node).to_numpy()]) for node in line["linked"]]
    edges = np.arange(line["cut_ns"], line["heal_ns"] + 1, WINDOW_NS)
    return {
        "scenario": line["scenario"],
        "nodes": line["nodes"],
        "timeout_ms": timeout_ms,
        "system": cell.system,
        "repeat": cell.repeat,
        "downtime_ms": service["timeouts"] * timeout_ms,
        "all_ms": max(client["timeouts"] for client in clients) * timeout_ms,
        "cut_ms": (line["heal_ns"] - line["cut_ns"]) / 1e6,
        "back": service["back"],
        "served_percent": 100 * np.mean(np.histogram(ends, edges)[0] > 0),
    }


def summary(found: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """A row for each group: the means over the repetitions with half-widths of their t intervals,
    how often service was `not_back`, and whether that was the `whole` partition most times."""
    table = cells.intervals(found, by, ["downtime_ms", "all_ms", "served_percent", "cut_ms"])
    away = found.groupby(by, sort=False)["back"].agg(lambda back: int((~back.astype(bool)).sum()))
    table = table.merge(away.rename("not_back").reset_index(), on=by)
    table["whole"] = 2 * table["not_back"] > table["n"]
    return table


def shown(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """The table for people."""
    names = ["n", "not_back", "downtime_ms", "downtime_ms_half", "all_ms", "served_percent"]
    return table[[*by, *names]]


def report(run: Run, figures: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table, and the parts of the page."""
    by = ["scenario", "nodes", "timeout_ms", "system"]
    kinds = [scenario for scenario, _ in run.experiment["kinds"]]
    # Kinds and systems in the order of the experiment.
    place = {name: at for at, name in enumerate([*kinds, *run.experiment["systems"]])}
    found = cuts(cells.load(run)).sort_values(
        [*by, "repeat"],
        key=lambda column: column.map(place) if column.name in ("scenario", "system") else column,
        ignore_index=True,
    )
    table = summary(found, by)
    found.to_csv(run.path / "cuts.csv", index=False, float_format="%.6g")
    plots.save(plots_downtime.systems(table), figures, "downtime")
    whole = int(found["back"].eq(False).sum())
    return table, [
        f"In {whole} of {len(found):,} cuts service was not back before the links were healed.",
        "![Downtime by kind of partition and election timeout](figures/downtime.svg)",
        markdown(shown(table, by)),
        EXPLAINED,
        f"Links stay cut for {run.experiment['watched_timeouts']:g} election timeouts and "
        f"{run.experiment['duration_s']:g} s. An election timeout is what each system calls so: of "
        "Loggos the length of a heartbeat round, of OmniPaxos the time between two rounds of "
        "heartbeats, of etcd the least time for which a follower waits (it waits up to twice that; "
        "a tenth of it is the time between heartbeats).",
    ]


EXPLAINED = (
    "Downtime: milliseconds from the cut to the end of the longest time without a reply to any "
    "client; `downtime_ms_half`, and the bars: half the 95 % t interval of the mean over the "
    "repetitions; `not_back`: how often service did not come back before the links were healed, "
    "which counts with the whole length of the partition (hatched, where that was so in most "
    "repetitions). `all_ms`: until the client that waited longest was served, of those at nodes "
    "with a whole link to another. `served_percent`: of windows of 100 ms while links were cut, "
    "those with a reply to any client. Every node has one client, which talks to no other; it "
    "sends 100 operations a second, and sends again what had no reply for 100 ms."
)
