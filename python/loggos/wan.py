"""The experiment `wan`: latency by region, of writes and of each way of reads."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from loggos import plots, plots_wan, stats, stretches, trace
from loggos.runs import Run
from loggos.tables import kept, markdown

BY = ["leader", "operation", "region"]


def operations(run: Run) -> pd.DataFrame:
    """The successful operations that were measured.

    Columns: `leader` (its region), `operation` (`write`, or `read by` a way), `region` of the
    client, `repeat`, `latency_ms`.
    """
    frames = []
    for folder in sorted(run.path.glob("*-nodes-*")):
        about = json.loads((folder / "cluster.json").read_text())
        for path in sorted(folder.glob("bench-*.json")):
            _, repeat, region = path.stem.split("-")
            # What ended during the warm-up is no part of it.
            begin_ns = json.loads(path.read_text())["start_monotonic_ns"]
            found = trace.operations(trace.read(folder / "traces" / f"{path.stem}.trace"))
            found = stats.succeeded(found[found["end_ns"] >= begin_ns])
            # Reads have no number in their session.
            is_read = found["sequence"] == 0
            frames.append(
                pd.DataFrame(
                    {
                        "leader": about["leader"],
                        "operation": np.where(is_read, f"read by {about['way']}", "write"),
                        "region": region,
                        "repeat": f"{about['way']} {repeat}",
                        "latency_ms": found["latency_ns"] / 1e6,
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def summary(found: pd.DataFrame, experiment: dict) -> pd.DataFrame:
    """A row for each leader, operation and region: how many `operations`; the mean over `n` loads
    of `p50_ms` and `p99_ms`, with their intervals; and `floor_ms`, what the network alone takes."""
    groups = found.groupby([*BY, "repeat"], sort=False)["latency_ms"]
    loads = pd.DataFrame({"p50_ms": groups.median(), "p99_ms": groups.quantile(0.99)})
    table = stretches.means(loads.reset_index(), BY, ["p50_ms", "p99_ms"])
    count = found.groupby(BY, sort=False).size()
    table.insert(3, "operations", [int(count[tuple(row)]) for row in table[BY].to_numpy()])
    table["floor_ms"] = [floor_ms(experiment, *row) for row in table[BY].to_numpy()]
    order = {region: at for at, region in enumerate(experiment["regions"])}
    return table.sort_values(
        BY, key=lambda column: column.map(order) if column.name == "region" else column,
        ignore_index=True,
    )  # fmt: skip


def points(found: pd.DataFrame, experiment: dict) -> pd.DataFrame:
    """The distributions as a figure shows them, all loads together: `leader`, `operation`, `region`
    in the order of the experiment, and of each the columns of `stats.quantiles`, which are `share`
    of the operations and `ms`."""
    kinds = ["write", *(f"read by {way}" for way in experiment["ways"])]
    groups = dict(list(found.groupby(BY)["latency_ms"]))
    frames = []
    for key in product(experiment["leaders"], kinds, experiment["regions"]):
        if key in groups:
            frame = stats.quantiles(groups[key].to_numpy())
            for at, (name, value) in enumerate(zip(BY, key, strict=True)):
                frame.insert(at, name, value)
            frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def floor_ms(experiment: dict, leader: str, operation: str, region: str) -> float:
    """What messages alone take: from the client to its node, from there to the leader, and
    from that to the nearest majority; a lease needs no majority, a quorum read no leader."""
    regions, trips = experiment["regions"], experiment["round_trips_ms"]
    here, there = regions.index(region), regions.index(leader)

    def majority_ms(at: int) -> float:
        others = sorted(trip for to, trip in enumerate(trips[at]) if to != at)
        # It is itself one of them.
        return others[len(regions) // 2 - 1]

    own_ms = trips[here][here]
    to_leader_ms = 0 if here == there else trips[here][there]
    if operation == "read by quorum":
        return own_ms + majority_ms(here)
    if operation == "read by lease":
        return own_ms + to_leader_ms
    return own_ms + to_leader_ms + majority_ms(there)


def report(run: Run, figures: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table, and the parts of the page."""
    found = operations(run)
    table = summary(found, run.experiment)
    shown = kept(points(found, run.experiment), run.path, "latency-points")
    plots.save(plots_wan.latency(shown), figures, "latency")
    return table, [
        "![Latency by region](figures/latency.svg)",
        markdown(table, 1),
        "`leader`: the region that leads. Clients talk to the node of their own `region`, "
        f"{run.experiment['rate']} operations/s in each. `p50_ms`, `p99_ms`: mean over `n` loads; "
        "`_ci95`: half the width of its t interval. `floor_ms`: what the round trips alone take, "
        "from the client to its node, from there to the leader and from the leader to the nearest "
        "majority (a lease needs no majority, a quorum read no leader). A write may take less when "
        "its node reads by quorum meanwhile, and so learns from the acceptors that it is chosen "
        "before the leader says so. Reads take more: those that come while a round is "
        "under way wait for the next one.",
        "Round trips between the regions are those that M. Burke, A. Cheng and W. Lloyd emulate in "
        "*Gryff: Unifying Consensus and Shared Registers* (NSDI 2020), of regions of Amazon EC2:",
        markdown(distances(run.experiment), 1),
    ]


def distances(experiment: dict) -> pd.DataFrame:
    """The round trips between regions, as a table."""
    frame = pd.DataFrame(experiment["round_trips_ms"], columns=experiment["regions"], dtype=float)
    frame.insert(0, "ms", experiment["regions"])
    return frame
