"""The experiment `snapshot`: what a snapshot costs while it is taken, the disk, restarts."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from loggos import marks, plots, plots_snapshot, stats
from loggos.runs import Run
from loggos.tables import kept, markdown

# What the project promises of p99.9 while a snapshot is taken, against without.
BAR = 2.0
WHICH = (50, 99, 99.9, 100)
# Of the figure of latency: its windows, and what it shows before the first snapshot.
WINDOW_NS = 500_000_000
BEFORE_NS = 30_000_000_000


def journal(run: Run) -> pd.DataFrame:
    """The lines of `snapshot.jsonl`; each has `kind` and what belongs to it."""
    lines = (run.path / "snapshot.jsonl").read_text().splitlines()
    return pd.DataFrame([json.loads(line) for line in lines])


def spans(lines: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Begin and end of the lines of a kind, in order, those that overlap made one."""
    rows = lines[lines["kind"] == kind].sort_values("begin_ns")
    merged: list[list[int]] = []
    for begin, end in zip(rows["begin_ns"], rows["end_ns"], strict=True):
        if merged and begin <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], int(end))
        else:
            merged.append([int(begin), int(end)])
    return pd.DataFrame(merged, columns=["begin_ns", "end_ns"], dtype="int64")


def within(operations: pd.DataFrame, spans: pd.DataFrame) -> pd.Series:
    """Whether each operation was under way at some time within these spans, which are apart."""
    # The first span that ends behind the operation's start must begin before the operation's end.
    at = np.searchsorted(spans["end_ns"].to_numpy(), operations["start_ns"].to_numpy())
    begins = np.append(spans["begin_ns"].to_numpy(), np.iinfo(np.int64).max)
    return pd.Series(begins[at] <= operations["end_ns"].to_numpy(), index=operations.index)


def latency(operations: pd.DataFrame, lines: pd.DataFrame) -> pd.DataFrame:
    """Latency with and without snapshots: a row each, columns `when`, `seconds`, `operations` and
    the percentiles in milliseconds. Operations that both touch count as with."""
    operations = stats.succeeded(operations)
    taking, calm = spans(lines, "snapshot"), spans(lines, "calm")
    touched = within(operations, taking)
    rows = []
    for when, chosen, times in (
        ("calm", operations[within(operations, calm) & ~touched], calm),
        ("snapshots", operations[touched], taking),
    ):
        rows.append(
            {
                "when": when,
                "seconds": (times["end_ns"] - times["begin_ns"]).sum() / 1e9,
                "operations": len(chosen),
                **stats.percentiles(chosen["latency_ns"], WHICH).add_suffix("_ms"),
            }
        )
    return pd.DataFrame(rows)


def shown_ns(run: Run, taking: pd.DataFrame) -> tuple[int, int]:
    """From when to when the figure shows latency: what was written before is no part of it."""
    start, end = run.load_ns
    return max([start, *(taking["begin_ns"].iloc[:1] - BEFORE_NS)]), end


def windows(run: Run, taking: pd.DataFrame) -> pd.DataFrame:
    """Latency over time in windows of half a second: of `stats.windows` the columns `at_s`,
    `p50_ms`, `p99_ms` and `max_ms`."""
    found = stats.windows(run.operations, *shown_ns(run, taking), WINDOW_NS)
    return found.drop(columns="per_second")


def marked(run: Run, taking: pd.DataFrame) -> pd.DataFrame:
    """A table of `marks`: `load` (all that the figure shows), and each `snapshot`, from the first
    node's begin to the last one's end."""
    start, end = shown_ns(run, taking)
    rows = [("snapshot", "", 0, it.begin_ns, it.end_ns) for it in taking.itertuples()]
    return marks.table([("load", "", 0, start, end), *rows], start)


def disk(lines: pd.DataFrame) -> pd.DataFrame:
    """What each node's data took over the long run: `writes` (so far, spread evenly over each load)
    and a column in MiB for each node."""
    rows = lines[lines["kind"] == "disk"]
    loads = lines[lines["kind"] == "writes"]
    nodes = [name for name in rows.columns if name[:1] == "n" and name[1:].isdigit()]
    times = [loads["begin_ns"].iloc[0], *loads["end_ns"]] if len(loads) else [0, 1]
    totals = [0, *loads["total"]] if len(loads) else [0, 0]
    frame = rows[nodes].astype(float) / 1024**2
    frame.insert(0, "writes", np.interp(rows["time_ns"].astype(float), times, totals))
    return frame.reset_index(drop=True)


def restarts(lines: pd.DataFrame) -> pd.DataFrame:
    """How long each restart took: `restarted`, seconds until it `answers` and until one `leads`."""
    rows = lines[lines["kind"] == "restart"]
    return pd.DataFrame(
        {
            "restarted": rows["label"].to_numpy(),
            "answers_s": rows["serving_s"].to_numpy(dtype=float),
            "leads_s": rows["led_s"].to_numpy(dtype=float),
        }
    )


def report(run: Run, figures: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table, and the parts of the page."""
    lines = journal(run)
    table = latency(run.operations, lines)
    ratio = table["p99.9_ms"][1] / table["p99.9_ms"][0]
    taken = lines[lines["kind"] == "snapshot"]
    took_s = (taken["end_ns"] - taken["begin_ns"]) / 1e9
    used = disk(lines)
    nodes = used.drop(columns="writes")
    taking = spans(lines, "snapshot")
    over_time = kept(windows(run, taking), run.path, "latency-windows")
    seen = kept(marked(run, taking), run.path, "latency-marks")
    plots.save(plots_snapshot.latency(over_time, seen), figures, "latency")
    plots.save(plots_snapshot.disk(kept(used, run.path, "disk")), figures, "disk")
    return table, [
        f"**p99.9 while snapshots are taken: {ratio:.2f} times that without** "
        f"(bar: {BAR:g} times). {len(taken)} snapshots of {taken['size'].max() / 1024**2:,.0f} "
        f"MiB, all nodes at the same time, {took_s.median():.1f} s each (longest "
        f"{took_s.max():.1f} s).",
        "![Latency over time, with and without snapshots](figures/latency.svg)",
        markdown(table, 2),
        f"The disk over {used['writes'].max():,.0f} writes: at most {nodes.max().max():,.0f} MiB "
        f"at a node, in the end {nodes.iloc[-1].max():,.0f} MiB.",
        "![Size of the data directories over the writes](figures/disk.svg)",
        "Killed with kill -9 and started with that state:",
        markdown(restarts(lines), 2),
        "What the first node said meanwhile:",
        "\n".join(["```text", *lines[lines["kind"] == "restart"]["said"].iloc[-1], "```"]),
    ]
