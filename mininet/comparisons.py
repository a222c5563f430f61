"""The comparisons: experiments that do the same to several systems, cell by cell.

A cell is one system with one choice of parameters, once, in a cluster of its own. Repetitions are
outermost: should the machine grow slower or faster meanwhile, all systems feel it.
"""

from dataclasses import dataclass, field, replace

from experiment import SAME, Experiment
from faults import At, Kill, Restart, words


@dataclass(frozen=True)
class Cell:
    """One system, once. `changes` are fields of the experiment that are different here."""

    system: str
    repeat: int
    changes: dict = field(default_factory=dict)

    @property
    def name(self):
        """Its folder's name."""
        changes = (f"{key}-{value}" for key, value in self.changes.items())
        return "-".join([f"{self.repeat:02d}", self.system, *changes]).lower()

    def as_json(self):
        """All of it as plain values."""
        return {"system": self.system, "repeat": self.repeat, "changes": self.changes}


@dataclass(frozen=True, kw_only=True)
class Comparison(Experiment):
    """Several systems, one after the other, again and again."""

    # By their names in `systems/known.py`.
    systems: tuple[str, ...] = ()
    repeats: int
    duration_s: float
    warmup_s: float

    def unfit(self, adapter):
        """Why a system can't take part, None if it can."""
        return "split roles are compared in failover only" if adapter.split else None

    def variants(self):
        """The changes of the cells of one system."""
        return [{}]

    def cells(self):
        """All cells in their order."""
        return [
            Cell(system, repeat, changes)
            for repeat in range(1, self.repeats + 1)
            for changes in self.variants()
            for system in self.systems
        ]

    def of(self, cell):
        """The experiment as it is in a cell."""
        return replace(self, **cell.changes)

    def setup(self):
        """How the nodes differ from the defaults of their system; None: in nothing."""
        return None

    def plan(self, adapter):
        """What is done in a cell of this system, a line each."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Steady(Comparison):
    """Rising offered load, up to some rates at which a system does not keep up any more; where its
    load generator knows no rates, rising numbers of operations under way."""

    rates: tuple[int, ...]
    outstanding: tuple[int, ...]
    # A system keeps up with a rate if it achieves this share of it, and how many rates follow the
    # first at which it does not.
    keeps_up: float
    beyond: int

    def quick(self):
        """Every second rate, shortly, three times."""
        return replace(
            self,
            rates=self.rates[1::2] or self.rates,
            outstanding=self.outstanding[::2],
            repeats=3,
            duration_s=2,
            beyond=1,
        )

    def plan(self, adapter):
        """The loads."""
        seconds = self.warmup_s + self.duration_s
        if not adapter.open_loop:
            steps = ", ".join(f"{number:,}" for number in self.outstanding)
            yield f"{seconds:g} s each in closed loops of {steps} values under way"
            return
        yield f"{seconds:g} s each at rising rates, up to {self.beyond} behind the first too high:"
        for at in range(0, len(self.rates), 8):
            yield "  " + ", ".join(f"{rate:,}" for rate in self.rates[at : at + 8])


@dataclass(frozen=True, kw_only=True)
class Cdf(Comparison):
    """Latencies at fixed rates, and at a share of what a closed loop achieved just before."""

    rates: tuple[int, ...]
    share: float

    def unfit(self, adapter):
        """Without a record of each operation there is no distribution."""
        if not adapter.open_loop:
            return "its load generator keeps no rate and no latencies"
        return super().unfit(adapter)

    def quick(self):
        """Shortly, three times."""
        return replace(self, repeats=3, duration_s=2)

    def plan(self, adapter):
        """The loads."""
        seconds = self.warmup_s + self.duration_s
        yield f"{seconds:g} s in a closed loop, then {seconds:g} s at {self.share:.0%} of that"
        for rate in self.rates:
            yield f"{seconds:g} s at {rate:,} operations/s"


@dataclass(frozen=True, kw_only=True)
class Sizes(Comparison):
    """Cluster sizes: throughput in a closed loop, latency of one operation at a time."""

    sizes: tuple[int, ...]

    def unfit(self, adapter):
        """One node has no sizes."""
        if not adapter.replicated:
            return "it is one node, whatever the size"
        return super().unfit(adapter)

    def variants(self):
        """A cell for each size."""
        return [{"nodes": nodes} for nodes in self.sizes]

    def quick(self):
        """The smallest and one larger, shortly, three times."""
        return replace(self, sizes=self.sizes[:2], repeats=3, duration_s=2)

    def plan(self, adapter):
        """The loads."""
        seconds = self.warmup_s + self.duration_s
        under_way = self.clients * self.in_flight
        yield f"{seconds:g} s in a closed loop of {under_way}, {seconds:g} s of one operation"


@dataclass(frozen=True, kw_only=True)
class Failover(Comparison):
    """One load, and a schedule of crashes; downtime is what clients notice."""

    rate: int
    schedule: tuple[At, ...]

    def unfit(self, adapter):
        """Somebody must be there to take over, and the crashed node may come back."""
        if not adapter.replicated:
            return "it is one node: nobody takes over"
        if not adapter.open_loop:
            return "its client knows one node and no other, and records no single operation"
        return None if adapter.restarts else "a node that was killed must not come back: it forgot"

    def as_json(self):
        """All parameters, the schedule included, as plain values."""
        events = [
            {"seconds": it.seconds, "action": type(it.action).__name__, "role": it.action.role}
            for it in self.schedule
        ]
        return {**super().as_json(), "schedule": events}

    def quick(self):
        """The same in about half the time, three times."""
        return replace(
            self,
            repeats=3,
            duration_s=self.duration_s / 2,
            schedule=tuple(replace(event, seconds=event.seconds / 2) for event in self.schedule),
        )

    def plan(self, adapter):
        """The timeline."""
        yield f"{0:6.1f} s  load begins: {self.rate:,} operations/s"
        for event in self.schedule:
            yield f"{event.seconds:6.1f} s  {words(event.action)}"
        yield f"{self.warmup_s + self.duration_s:6.1f} s  load ends"


@dataclass(frozen=True, kw_only=True)
class Cost(Comparison):
    """What an operation costs: processor, memory, packets, bytes; and, in cells of their own
    because counting takes time, syncs."""

    rate: int
    count_syncs: bool = False

    def variants(self):
        """Once as it is, once under strace."""
        return [{"count_syncs": False}, {"count_syncs": True}]

    def quick(self):
        """Shortly, three times."""
        return replace(self, repeats=3, duration_s=3)

    def plan(self, adapter):
        """The loads."""
        seconds = self.warmup_s + self.duration_s
        loads = [f"{self.rate:,} operations/s"] if adapter.open_loop else []
        for load in [*loads, f"a closed loop of {self.clients * self.in_flight}"]:
            yield f"{seconds:g} s of {load}, resources counted"


# What is the same in all of them. Three nodes; nobody takes slowness on few processors for death,
# and no trace of requests takes part of them.
ALIKE = {
    **SAME,
    "nodes": 3,
    "election_timeout_ms": 1000,
    "node_traces": False,
    "op_timeout_ms": 2000,
    "keys": 10_000,
    "value_size": 256,
    "reads": 0,
    "workload": "put",
    "check": False,
    "repeats": 5,
}

STEADY = Steady(
    **ALIKE,
    name="steady",
    title="Latency against throughput: several systems, rising load",
    clients=64,
    in_flight=16,
    rates=(
        500, 1000, 2000, 3000, 4000, 6000, 8000, 12000, 16000, 24000, 32000, 48000, 64000,
        96000, 128000, 192000, 256000,
    ),
    outstanding=(1, 4, 16, 64, 256),
    keeps_up=0.95,
    beyond=2,
    duration_s=4,
    warmup_s=1,
)  # fmt: skip

# Every adapter in a few seconds.
SMOKE_SYSTEMS = replace(
    STEADY,
    name="smoke-systems",
    title="Each system started, loaded and ended once",
    clients=4,
    in_flight=2,
    keys=100,
    rates=(300,),
    outstanding=(4,),
    repeats=1,
    duration_s=2,
)

CDF = Cdf(
    **ALIKE,
    name="cdf",
    title="Latency of operations: distributions at light and at half load",
    clients=64,
    in_flight=4,
    rates=(1000,),
    share=0.5,
    duration_s=5,
    warmup_s=1,
)

SIZES = Sizes(
    **ALIKE,
    name="sizes",
    title="Cluster sizes: throughput and latency",
    clients=64,
    in_flight=1,
    sizes=(3, 5, 7, 9),
    duration_s=4,
    warmup_s=1,
)

FAILOVER = Failover(
    **{**ALIKE, "election_timeout_ms": 100, "op_timeout_ms": 500, "node_traces": True},
    name="failover",
    title="Leader and follower crash and come back under load",
    clients=16,
    in_flight=4,
    rate=1000,
    duration_s=28,
    warmup_s=2,
    schedule=(
        At(6, Kill("leader")),
        At(12, Restart("killed")),
        At(18, Kill("follower")),
        At(24, Restart("killed")),
    ),
)

COST = Cost(
    **ALIKE,
    name="cost",
    title="What an operation costs: processor, memory, network, disk",
    clients=64,
    in_flight=1,
    rate=1000,
    duration_s=6,
    warmup_s=1,
)
