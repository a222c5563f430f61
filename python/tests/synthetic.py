"""Makes a small run out of thin air, with known latencies and a known outage, for the tests.

Three nodes; node 1 leads until it is killed at `KILL_S`, node 2 from `ELECTED_S` on; node 1 is back
at `RESTART_S`. Requests that are due meanwhile are answered as soon as node 2 leads.
"""

import json
import struct
from pathlib import Path

import numpy as np

from loggos.trace import RECORD, Kind

ORIGIN_NS = 5_000_000_000_000
KILL_S, ELECTED_S, RESTART_S, END_S = 2.0, 2.15, 3.0, 5.0
SESSION = 77
# Nanoseconds of each stage of every request, in the order of `stages.STAGES`.
STAGE_NS = {
    "request": 40_000,
    "queue": 10_000,
    "sync": 60_000,
    "quorum": 30_000,
    "apply": 15_000,
    "response": 45_000,
}


def header(node: int, **changes: object) -> bytes:
    fields = {
        "magic": b"LOGGTRAC",
        "version": 1,
        "record_size": 40,
        "source": 1 if node else 2,
        "node": node,
        "pid": 100 + node,
        "wall_ns": 1_700_000_000_000_000_000,
        "monotonic_ns": ORIGIN_NS - 1_000_000_000,
        "error_ns": 80,
    } | changes
    return struct.pack("<8sIIHHIQQQ16x", *fields.values())


def record(time_ns: int, kind: int, node: int, aux: int = 0, a: int = 0, b: int = 0, c: int = 0):
    return (int(time_ns), int(kind), node, aux, a, b, c)


def write_trace(path: Path, node: int, records: list[tuple]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header(node) + np.array(sorted(records), RECORD).tobytes())
    return path


def write_run(path: Path, per_second: int = 200, lost: int = 0, violated: int = 0) -> Path:
    """A failover run's folder."""
    at = lambda seconds: ORIGIN_NS + round(seconds * 1e9)  # noqa: E731
    nodes: dict[int, list[tuple]] = {node: [] for node in (1, 2, 3)}
    client: list[tuple] = []
    for node, records in nodes.items():
        records.append(record(at(-0.8), Kind.NODE_STARTED, node, a=1))
        records.append(record(at(-0.5), Kind.LEADER_CHANGED, 1, a=1))
    nodes[1].append(record(at(-0.51), Kind.ADOPTED, 1, a=1, b=1))
    for node in (2, 3):
        nodes[node].append(record(at(KILL_S + 0.001), Kind.PEER_DOWN, 1))
        nodes[node].append(record(at(RESTART_S + 0.02), Kind.PEER_UP, 1))
        nodes[node].append(record(at(ELECTED_S + 0.002), Kind.LEADER_CHANGED, 2, a=2))
    nodes[2].append(record(at(ELECTED_S - 0.01), Kind.SCOUT_STARTED, 2, a=2, b=1))
    nodes[2].append(record(at(ELECTED_S), Kind.ADOPTED, 2, a=2, b=1))
    nodes[1].append(record(at(RESTART_S), Kind.NODE_STARTED, 1, a=1))

    for number in range(int(END_S * per_second)):
        start = at(number / per_second)
        slot = sequence = number + 1
        total = sum(STAGE_NS.values())
        leader = 1 if start + total < at(KILL_S) else 2
        # Who was due during the outage waits for the new leader, one after the other.
        late = max(0, at(ELECTED_S) - start) if leader == 2 else 0
        time = start + STAGE_NS["request"] + late
        own = nodes[leader]
        own.append(record(time, Kind.REQUEST_RECEIVED, leader, aux=16, a=SESSION, b=sequence))
        time += STAGE_NS["queue"]
        own.append(record(time, Kind.PROPOSED, leader, aux=1, a=slot, b=16))
        time += STAGE_NS["sync"]
        own.append(record(time, Kind.SYNCED, leader, aux=1, a=slot + 1, b=STAGE_NS["sync"]))
        time += STAGE_NS["quorum"]
        own.append(record(time, Kind.CHOSEN, leader, a=slot + 1, b=slot))
        own.append(record(time + 5_000, Kind.APPLIED, leader, aux=1, a=slot))
        time += STAGE_NS["apply"]
        own.append(record(time, Kind.REQUEST_REPLIED, leader, a=SESSION, b=sequence, c=slot))
        time += STAGE_NS["response"]
        client.append(
            record(time, Kind.CLIENT_OPERATION, leader, aux=2, a=SESSION, b=sequence, c=start)
        )

    for node, records in nodes.items():
        write_trace(path / "traces" / f"n{node}.trace", node, records)
    write_trace(path / "traces" / "c1.trace", 0, client)
    schedule = [
        (1, KILL_S, "kill", "kill n1 (leader)", [1]),
        (2, RESTART_S, "restart", "restart n1", [1]),
    ]
    lines = [
        json.dumps(
            {
                "number": number,
                "planned_s": seconds,
                "time_ns": at(seconds),
                "done_ns": at(seconds) + 1000,
                "action": action,
                "label": label,
                "nodes": involved,
            }
        )
        for number, seconds, action, label, involved in schedule
    ]
    (path / "faults.jsonl").write_text("\n".join(lines) + "\n")
    experiment = {
        "name": "failover",
        "title": "Three nodes, the leader is killed",
        "nodes": 3,
        "clients": 1,
        "rate": per_second,
        "rates": [],
        "workload": "incr",
        "value_size": 16,
        "election_timeout_ms": 100,
        "sync": True,
    }
    bench = {
        "check": {"lost": lost, "duplicated": 0, "stale": 0, "unexpected": 0},
        "reads": {"ok": 0, "unknown": 0},
        "writes": {"ok": len(client), "unknown": 0},
    }
    check = {
        "histories": {
            "files": 1,
            "cut_short": 0,
            "operations": len(client),
            "unknown": 3,
            "keys": 50,
            "violated": violated,
            "undecided": 0,
            "witnesses": [["key k1", "  no order"]] * violated,
        },
        "nodes": {"files": 3, "ballots": 2, "slots": 9, "compared": 8, "problems": 0},
    }
    check["nodes"]["examples"] = []
    (path / "check.json").write_text(json.dumps([check]))
    (path / "experiment.json").write_text(json.dumps(experiment))
    (path / "environment.json").write_text(json.dumps({"commit": "none", "machine": {"cores": 2}}))
    (path / "outcome.json").write_text(json.dumps({"ok": True}))
    (path / "bench-c1.json").write_text(json.dumps(bench))
    return path
