"""The experiment `quorums`: what latency and throughput cost or gain by the sizes of quorums."""

import json
from pathlib import Path

import pandas as pd

from loggos import plots, plots_quorums
from loggos.runs import Run
from loggos.tables import markdown


def clusters(run: Run) -> pd.DataFrame:
    """A row for each cluster: the median of its repeats, and their range.

    Columns: `nodes`, `q1`, `q2`, `slower_ms` (by how much each node's sync takes longer than that
    of the node before it), `repeats`; `p50_ms`, `p99_ms` at a light load and `achieved` operations
    a second in a closed loop, each also as `_low` and `_high`; and how many nodes may fail:
    `spare_leading` while the leader lives, `spare_electing` when another one is needed.
    """
    rows = []
    for folder in sorted(run.path.glob("*-nodes-q2-*")):
        about = json.loads((folder / "cluster.json").read_text())
        row = {
            "nodes": about["nodes"],
            "q1": about["phase1"],
            "q2": about["phase2"],
            "slower_ms": about["slower_ms"],
        }
        light = [_read(path) for path in folder.glob("bench-latency-*.json")]
        heavy = [_read(path) for path in folder.glob("bench-throughput-*.json")]
        row["repeats"] = len(light)
        for name, values in (
            ("p50_ms", [bench["writes"]["latency_us"]["p50"] / 1e3 for bench in light]),
            ("p99_ms", [bench["writes"]["latency_us"]["p99"] / 1e3 for bench in light]),
            ("achieved", [bench["throughput"] for bench in heavy]),
        ):
            repeats = pd.Series(values, dtype=float)
            row[name] = repeats.median()
            row[f"{name}_low"], row[f"{name}_high"] = repeats.min(), repeats.max()
        row["spare_leading"] = about["nodes"] - about["phase2"]
        row["spare_electing"] = about["nodes"] - about["phase1"]
        rows.append(row)
    order = ["slower_ms", "nodes", "q1"]
    return pd.DataFrame(rows).sort_values(order, ignore_index=True)


def _read(path: Path) -> dict:
    return json.loads(path.read_text())


def report(run: Run, figures: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table, and the parts of the page."""
    table = clusters(run)
    plots.save(plots_quorums.quorums(table), figures, "quorums")
    return table, [
        "![Latency and throughput by the size of the phase-2 quorum](figures/quorums.svg)",
        markdown(table, 2),
        "Median of the repeats, with the lowest and the highest. Latency at "
        f"{run.experiment['rate']:,} operations/s, `achieved` in a closed loop. `slower_ms`: each "
        "node's sync takes so much longer than that of the node before it; node 1 leads, with the "
        "disk as it is. A commit waits for the disk of the q2-th fastest node. `spare_leading`: "
        "nodes that may fail while the leader lives; `spare_electing`: when a new one is needed.",
    ]
