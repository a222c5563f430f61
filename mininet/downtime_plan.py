"""The comparison `downtime`: for how long a partial partition stops each system.

A cell is one cut of one kind with one election timeout, in a fresh cluster. Every node has a load
generator of its own, the same for all systems: it talks to that node and to no other, at a light
rate, and dials anew and asks again when there was no reply for a while. So service counts as back
as soon as any node serves its client, and it makes no difference how quickly clients find a leader.
"""

from dataclasses import dataclass, replace

import scenarios
from comparisons import ALIKE, Comparison

# The load at each node. Ten operations fall due before one is asked again, so that there is always
# a young one under way.
PROBE = {"clients": 1, "in_flight": 64, "op_timeout_ms": 100, "rate": 100, "histories": False}


@dataclass(frozen=True, kw_only=True)
class Downtime(Comparison):
    """Kinds of partial partitions and election timeouts. A cut lasts `watched_timeouts` election
    timeouts and `duration_s` seconds; clients ask for `warmup_s` before it."""

    # Names in `scenarios.py`, and the size of the cluster.
    kinds: tuple[tuple[str, int], ...]
    timeouts_ms: tuple[int, ...]
    watched_timeouts: float
    rate: int
    # Of a cell: one of the kinds.
    scenario: str = ""

    def unfit(self, adapter):
        """Somebody must be there to take over, and each operation must be recorded."""
        if not adapter.replicated:
            return "it is one node: nothing is partitioned"
        if not adapter.open_loop:
            return "its load generator keeps no rate and records no single operation"
        return super().unfit(adapter)

    def variants(self):
        """Each kind with each timeout."""
        return [
            {"scenario": name, "nodes": nodes, "election_timeout_ms": timeout_ms}
            for name, nodes in self.kinds
            for timeout_ms in self.timeouts_ms
        ]

    def quick(self):
        """Without the longest timeout, three times."""
        return replace(self, repeats=3, timeouts_ms=self.timeouts_ms[:-1], duration_s=1)

    def plan(self, adapter):
        """The cuts."""
        for timeout_ms in self.timeouts_ms:
            seconds = self.warmup_s + cut_s(self, timeout_ms)
            yield f"{seconds:g} s each with an election timeout of {timeout_ms:,} ms"


def cut_s(experiment, timeout_ms):
    """How long the cut that is measured lasts."""
    return experiment.watched_timeouts * timeout_ms / 1000 + experiment.duration_s


def case_of(experiment):
    """What happens to the links in a cell: the only case of its scenario, for longer."""
    (case,) = scenarios.all_scenarios(experiment.nodes)[experiment.scenario].cases
    timeout_ms = experiment.election_timeout_ms
    timeouts = cut_s(experiment, timeout_ms) * 1000 / timeout_ms
    return replace(case, phases=(replace(case.phases[0], timeouts=timeouts),))


DOWNTIME = Downtime(
    # Each repetition takes 20 minutes.
    **{**ALIKE, **PROBE, "keys": 500, "value_size": 16, "request_timeout_ms": 20_000, "repeats": 3},
    name="downtime",
    title="Partial partitions: for how long each system is away",
    kinds=(("quorum-loss", 5), ("constrained", 5), ("chained", 3)),
    timeouts_ms=(50, 500, 5000),
    # About a minute with the longest: some elections take six of them and more.
    watched_timeouts=10,
    duration_s=3,
    warmup_s=1,
)
