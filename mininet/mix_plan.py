"""The comparison `mix`: throughput and latency by the share of reads and the skew of keys.

All reads are linearizable. Loggos reads in three ways, each in a cluster of its own; another system
in the one that it has.
"""

from dataclasses import dataclass, replace

from comparisons import ALIKE, Cell, Comparison
from systems.loggos import Setup

# By way: where clients connect to.
TARGETS = {"leader": "leader", "lease": "leader", "quorum": "spread"}


@dataclass(frozen=True, kw_only=True)
class Mix(Comparison):
    """Closed loops, one for each share of reads and each Zipf exponent of the choice of keys."""

    shares: tuple[float, ...]
    skews: tuple[float, ...]
    lease_ms: int
    # Of a cell of Loggos: how it reads.
    way: str = ""

    def unfit(self, adapter):
        """Reads must be linearizable, and there must be some."""
        if not adapter.replicated:
            return "it is one node: all its reads are linearizable"
        if not adapter.open_loop:
            return "its client only writes"
        return super().unfit(adapter)

    def cells(self):
        """Loggos once for each way."""
        return [
            Cell(system, repeat, {"way": way} if way else {})
            for repeat in range(1, self.repeats + 1)
            for system in self.systems
            for way in (TARGETS if system == "loggos" else [""])
        ]

    def setup(self):
        """A lease, where it is read by one."""
        return Setup(lease_ms=self.lease_ms) if self.way == "lease" else None

    def quick(self):
        """Three shares, shortly, three times."""
        return replace(self, repeats=3, duration_s=2, shares=(0, 0.5, 1))

    def plan(self, adapter):
        """The loads."""
        seconds = self.warmup_s + self.duration_s
        yield f"{seconds:g} s each in closed loops of {self.clients * self.in_flight}, with"
        for skew in self.skews:
            shares = ", ".join(f"{share:.0%}" for share in self.shares)
            yield f"  {shares} reads, {f'Zipf {skew:g}' if skew else 'uniform keys'}"


MIX = Mix(
    # `reads` judges the histories of all ways; here they would be of a few keys, and very long.
    **{**ALIKE, "histories": False},
    name="mix",
    title="Throughput and latency by the share of reads and the skew of keys",
    clients=64,
    in_flight=4,
    shares=(0, 0.5, 0.9, 0.99, 1),
    skews=(0, 0.99),
    lease_ms=1000,
    duration_s=4,
    warmup_s=1,
)
