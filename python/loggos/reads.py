"""The experiment `reads`: latency and throughput by the way of linearizable reads, and what the
death of the leader costs them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from loggos import plots, plots_reads, stats
from loggos.runs import Run
from loggos.tables import kept, markdown

# What is told as the median of the repeats, with their range.
MEASURES = ("achieved", "p50_ms", "p99_ms", "nodes_us", "busiest_percent")
# What is shown around a death, in milliseconds.
BEFORE_MS, AFTER_MS, WINDOW_MS = 200, 600, 20


def points(run: Run) -> pd.DataFrame:
    """A row for each way and offered rate: the median of the repeats, and their range.

    Columns: `way`, `offered` and `achieved` operations a second, `p50_ms` and `p99_ms` of reads,
    `nodes_us`, the processor time an operation of all nodes, and `busiest_percent`, the share in it
    of the node that spends most; the last five each also as `_low` and `_high`.
    """
    rows = []
    for way in run.experiment["ways"]:
        folder = _of(run, way).path
        spent = {line["label"]: line["seconds"] for line in _lines(folder / "processors.jsonl")}
        for path in folder.glob("bench-[0-9]*.json"):
            bench = json.loads(path.read_text())
            parameters, latency = bench["parameters"], bench["reads"]["latency_us"]
            # Processors worked during the warm-up as well.
            seconds = parameters["warmup_s"] + bench["measured_s"]
            of_nodes = spent[path.stem].values()
            rows.append(
                {
                    "way": way,
                    "offered": parameters["rate"],
                    "achieved": bench["throughput"],
                    "p50_ms": latency["p50"] / 1e3,
                    "p99_ms": latency["p99"] / 1e3,
                    "nodes_us": 1e6 * sum(of_nodes) / (bench["throughput"] * seconds),
                    "busiest_percent": 100 * max(of_nodes) / sum(of_nodes),
                }
            )
    groups = pd.DataFrame(rows).groupby(["way", "offered"])
    table = pd.DataFrame(index=groups.size().index)
    for name in MEASURES:
        table[name] = groups[name].median()
        table[f"{name}_low"], table[f"{name}_high"] = groups[name].min(), groups[name].max()
    return table.reset_index()


def deaths(run: Run) -> pd.DataFrame:
    """A row for each leader that died: the longest time without a successful reply.

    Columns: `way`, `of` what it died ("process", "machine"), `death_ns`; in milliseconds
    `calm_read_ms`, `calm_write_ms` of the time before, `read_ms`, `write_ms` from its death until
    it was started again.
    """
    rows = []
    for way in run.experiment["ways"]:
        one = _of(run, way)
        reads, writes = split(one.operations)
        for line in _lines(one.path / "deaths.jsonl"):
            calm, dead = (line["calm_ns"], line["death_ns"]), (line["death_ns"], line["end_ns"])
            row = {"way": way, "of": line["of"], "death_ns": line["death_ns"]}
            for name, operations, window in (
                ("calm_read_ms", reads, calm),
                ("calm_write_ms", writes, calm),
                ("read_ms", reads, dead),
                ("write_ms", writes, dead),
            ):
                row[name] = stats.longest_gap(operations, *window).length_ns / 1e6
            rows.append(row)
    return pd.DataFrame(rows)


def split(operations: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Reads, and writes."""
    # Reads have no number in their session.
    is_read = operations["sequence"] == 0
    return operations[is_read], operations[~is_read]


def gaps(died: pd.DataFrame) -> pd.DataFrame:
    """A row for each way and kind of death: how many, median and largest of their gaps."""
    groups = died.groupby(["way", "of"], sort=False)
    table = pd.DataFrame({"deaths": groups.size()})
    for name in ("calm_read_ms", "read_ms", "calm_write_ms", "write_ms"):
        table[name], table[f"{name}_max"] = groups[name].median(), groups[name].max()
    return table.reset_index()


def around(run: Run, died: pd.DataFrame) -> pd.DataFrame:
    """Successful replies to reads a second, in windows around each death.

    Columns: `way`, `of`, `death` (its number), `ms` (the window's middle, from the death),
    `per_second`.
    """
    edges = np.arange(-BEFORE_MS, AFTER_MS + 1, WINDOW_MS)
    frames = []
    for way, rows in died.groupby("way", sort=False):
        reads, _ = split(_of(run, way).operations)
        ends = stats.succeeded(reads)["end_ns"].to_numpy()
        for number, (of, death_ns) in enumerate(zip(rows["of"], rows["death_ns"], strict=True), 1):
            counts, _ = np.histogram((ends - death_ns) / 1e6, edges)
            windows = {"ms": edges[:-1] + WINDOW_MS / 2, "per_second": counts * 1e3 / WINDOW_MS}
            frames.append(pd.DataFrame({"way": way, "of": of, "death": number, **windows}))
    return pd.concat(frames, ignore_index=True)


def _of(run: Run, way: str) -> Run:
    """The cluster whose reads went this way, as if it were a run of its own."""
    return replace(run, path=run.path / f"{run.experiment['nodes']}-nodes-{way}")


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def report(run: Run, figures: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table, and the parts of the page."""
    table, died = points(run), deaths(run)
    each = kept(died, run.path, "deaths")
    replies = kept(around(run, died), run.path, "deaths-windows")
    plots.save(plots_reads.load(table), figures, "reads")
    plots.save(plots_reads.deaths(replies, each), figures, "deaths")
    return table, [
        "![Latency against throughput, and how nodes share the work](figures/reads.svg)",
        markdown(table, 2),
        "Median of the repeats, with the lowest and the highest. Latency is that of reads, from "
        f"when they were due; {run.experiment['reads']:.0%} of the operations are reads. By "
        "`leader` and by `lease` all clients ask the leader; by `quorum` each replica serves its "
        "share of them. `nodes_us`: processor time an operation of all nodes, less the more is "
        "done at a time; `busiest_percent`: the share in it of the busiest node. All nodes and the "
        "clients share the processors here: throughput ends where the sum is too much, and on "
        "machines of their own where the busiest one is.",
        "## The leader dies",
        "![Replies around a leader's death, and the longest times without any](figures/deaths.svg)",
        markdown(gaps(died), 1),
        "The longest time without a reply, in milliseconds: median and largest of all deaths, at "
        f"{run.experiment['death_rate']:,} operations/s, clients at all nodes. `process`: it is "
        "killed, and connections to it end at once; `machine`: no packet comes from it any more, "
        "so that the others must miss it. `calm`: as long a time before; random arrivals and a "
        "busy machine leave gaps as well. A quorum read needs no leader, unless one died with a "
        "write on its way that too few acceptors have: then it waits for the next one.",
    ]
