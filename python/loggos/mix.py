"""The comparison `mix`: throughput and latency by the share of reads and the skew of keys."""

from pathlib import Path

import pandas as pd

from loggos import cells, plots, plots_mix
from loggos.cells import Cell
from loggos.runs import Run
from loggos.tables import markdown

BY = ["system", "way", "skew", "share"]
MEASURES = ["achieved", "read_p50_ms", "read_p99_ms", "write_p50_ms"]


def mixes(found: list[Cell]) -> pd.DataFrame:
    """A row for each load of each cell: `system`, `way` (of Loggos; otherwise empty), `repeat`,
    `skew`, `share` of reads, `achieved` operations a second, and latencies, NaN where there were no
    such operations."""
    rows = []
    for cell in found:
        for bench in cell.run.benches:
            reads, writes = bench["reads"], bench["writes"]
            row = {"system": cell.system, "way": cell.changes.get("way", "")}
            row |= {"repeat": cell.repeat, "skew": bench["parameters"]["skew"]}
            row |= {"share": bench["parameters"]["reads"], "achieved": bench["throughput"]}
            row |= {
                "read_p50_ms": _of(reads, "p50"),
                "read_p99_ms": _of(reads, "p99"),
                "write_p50_ms": _of(writes, "p50"),
            }
            rows.append(row)
    return pd.DataFrame(rows)


def _of(operations: dict, name: str) -> float:
    return operations["latency_us"][name] / 1e3 if operations["ok"] else float("nan")


def summary(rows: pd.DataFrame, systems: list[str], ways: list[str]) -> pd.DataFrame:
    """A row for each system, way and mix: means over the repetitions with half-widths of their t
    intervals."""
    place = {name: at for at, name in enumerate([*systems, "", *ways])}
    rows = rows.sort_values(
        BY,
        key=lambda column: column.map(place) if column.name in ("system", "way") else column,
        kind="stable",
        ignore_index=True,
    )
    return cells.intervals(rows, BY, MEASURES)


def report(run: Run, figures: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table, and the parts of the page."""
    table = summary(mixes(cells.load(run)), run.experiment["systems"], list(plots_mix.WAYS))
    plots.save(plots_mix.mixes(table), figures, "mix")
    experiment = run.experiment
    return table, [
        "![Throughput and latency by the share of reads](figures/mix.svg)",
        markdown(table, 2),
        f"Closed loops of {experiment['clients'] * experiment['in_flight']:,} operations under way "
        f"on {experiment['keys']:,} keys, uniform (`skew` 0) or with that Zipf exponent; means "
        "over the repetitions, `NAME_half`, and the bars: half the 95 % t interval. All reads are "
        "linearizable. Loggos reads by the leader, which asks a quorum whether it still leads; by "
        f"the leader's lease ({experiment['lease_ms']} ms), with which it need not ask; or by "
        "quorums, at all replicas: there each serves its share of the clients, whose writes it "
        "hands to the leader. etcd reads by its leader, which asks a quorum (ReadIndex); OmniPaxos "
        "has no other linearizable read than an entry of the log.",
    ]
