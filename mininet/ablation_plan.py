"""The comparison `ablation`: what each optimisation of Loggos is worth, by switching it off.

Those that make it fast are told by throughput and latency. The quorum-connected election costs
nothing there; what it is for is told by partial partitions, as in the comparison `downtime`.
"""

from dataclasses import dataclass, replace

from comparisons import ALIKE, Comparison
from downtime_plan import PROBE, cut_s
from systems.loggos import SWITCHES, Setup

ELECTION = "quorum_connected_election"
FAST = tuple(name for name in SWITCHES if name != ELECTION)
# Which of these are off, by what a cell calls it.
WITHOUT = {"nothing": (), **{name: (name,) for name in FAST}, "all-four": FAST}


@dataclass(frozen=True, kw_only=True)
class Ablation(Comparison):
    """Closed loops, one cell for each optimisation without which they run; and partial partitions,
    each cut as long as in `Downtime`."""

    # Numbers of operations under way in the closed loops of 64 clients; and there is one client.
    loops: tuple[int, ...]
    # Names in `scenarios.py`, and the size of the cluster.
    kinds: tuple[tuple[str, int], ...]
    timeout_ms: int
    watched_timeouts: float
    # Of a cell: what is off; the partition, if it is one of these, and the rate at each node.
    without: str = "nothing"
    scenario: str = ""
    rate: int = 0

    def unfit(self, adapter):
        """Only one of them can be told to do without."""
        return None if adapter.name == "loggos" else "nothing in it can be switched off"

    def variants(self):
        """All that may be off, then the partitions with and without the election."""
        return [
            *({"without": name} for name in WITHOUT),
            *(
                {"scenario": scenario, "nodes": nodes, "without": name}
                for scenario, nodes in self.kinds
                for name in ("nothing", ELECTION)
            ),
        ]

    def of(self, cell):
        """With a partition, the load is that of `Downtime`."""
        experiment = super().of(cell)
        if not experiment.scenario:
            return experiment
        return replace(experiment, election_timeout_ms=self.timeout_ms, **PROBE)

    def setup(self):
        """What is off."""
        return Setup(without=WITHOUT.get(self.without, (self.without,)))

    def quick(self):
        """Shortly, three times."""
        return replace(self, repeats=3, duration_s=2)

    def plan(self, adapter):
        """The loads, and the cuts."""
        seconds = self.warmup_s + self.duration_s
        loops = ", ".join(f"{number:,}" for number in (1, *self.loops))
        yield f"{seconds:g} s each in closed loops of {loops} operations under way; or"
        seconds = self.warmup_s + cut_s(self, self.timeout_ms)
        yield f"{seconds:g} s with a cut, election timeout {self.timeout_ms} ms"


ABLATION = Ablation(
    # With everything off an operation of many waits for seconds, and no client shall give it up.
    **{**ALIKE, "op_timeout_ms": 20_000, "request_timeout_ms": 20_000},
    name="ablation",
    title="What each optimisation is worth: Loggos without it",
    clients=64,
    in_flight=1,
    loops=(64, 1024),
    kinds=(("quorum-loss", 5), ("chained", 3)),
    timeout_ms=500,
    watched_timeouts=6,
    duration_s=4,
    warmup_s=1,
)
