"""The part `downtime`: the leader is killed under load, again and again; the longest time without a
reply is what counts.

One client asks without pause. It gives an attempt up after a moment and asks another node, so that
what is measured is the cluster's time and not the client's patience.
"""

import random
import time

from loggos.bench.context import Context
from loggos.bench.systems import Load, Loggos

HAMMER = Load("hammer", clients=1, keys=100)
OP_TIMEOUT = "50ms"
LOAD_S = 2.5
# The kill comes at a random time in this stretch, so at a random moment between two heartbeats.
KILL_S = (0.6, 1.0)
HEARTBEAT_MS = 10
# Two heartbeat rounds an election timeout; a node asks the others once in each.
ROUNDS_A_TIMEOUT = 2
SETTINGS = {
    "default": {},
    "fast": {"timing": {"election_timeout_ms": ROUNDS_A_TIMEOUT * HEARTBEAT_MS}},
}
LABELS = {"default": "default settings", "fast": f"heartbeats of {HEARTBEAT_MS} ms"}


def run(context: Context) -> None:
    """All trials with each setting."""
    for name, settings in SETTINGS.items():
        context.console.heading(
            f"downtime, {LABELS[name]}: the leader is killed {context.parameters.trials} times"
        )
        with context.attempt("downtime", LABELS[name]):
            _trials(context, name, settings)


def _trials(context: Context, name: str, settings: dict) -> None:
    gaps = []
    with Loggos(context.place, settings=settings) as cluster:
        for trial in range(context.parameters.trials):
            gap_ms = _trial(cluster)
            context.measures.add("downtime", "loggos", name, trial, gap_ms=gap_ms)
            gaps.append(gap_ms)
    gaps.sort()
    context.console.line(
        f"median {gaps[len(gaps) // 2]:.0f} ms, longest {gaps[-1]:.0f} ms of {len(gaps)}"
    )


def _trial(cluster: Loggos) -> float:
    """Kills the leader once; returns the longest time without a reply, in milliseconds."""
    leader = cluster.wait_level()
    process = cluster.bench(HAMMER, LOAD_S, 0, "--op-timeout", OP_TIMEOUT)
    time.sleep(random.uniform(*KILL_S))
    cluster.kill_node(leader)
    report = cluster.report(process, LOAD_S)
    cluster.start_node(leader)
    return report["longest_gap_ms"]
