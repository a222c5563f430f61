"""The experiments: each a frozen value with every parameter spelled out, saved with its runs."""

from dataclasses import asdict, dataclass, replace

from ablation_plan import ABLATION
from comparisons import CDF, COST, FAILOVER, SIZES, SMOKE_SYSTEMS, STEADY
from downtime_plan import DOWNTIME
from experiment import SAME, Experiment
from faults import At, CutLink, HealLink, Kill, Pause, Restart, Resume
from link_experiments import CALIBRATION, FLAP, LOSS, TIMEOUTS, WAN
from mix_plan import MIX
from recovery_plan import RECOVERY


@dataclass(frozen=True, kw_only=True)
class Timeline(Experiment):
    """One load, and a schedule of what goes wrong meanwhile."""

    # Operations a second over all clients.
    rate: int
    duration_s: float
    warmup_s: float
    # In seconds from the start of the load, its warm-up included.
    schedule: tuple[At, ...]

    def as_json(self):
        """All parameters, the schedule included, as plain values."""
        events = [
            {"seconds": e.seconds, "action": type(e.action).__name__, **asdict(e.action)}
            for e in self.schedule
        ]
        return {**super().as_json(), "schedule": events}

    def quick(self):
        """The same in about half the time, to see that everything works."""
        return replace(
            self,
            duration_s=self.duration_s / 2,
            warmup_s=self.warmup_s / 2,
            schedule=tuple(replace(event, seconds=event.seconds / 2) for event in self.schedule),
        )


@dataclass(frozen=True, kw_only=True)
class Partition(Experiment):
    """Cuts links in every way of `scenarios.py`, again and again in one deployment a cluster size.

    One load generator a node, which talks to that node only, shows when and where service is back.
    """

    sizes: tuple[int, ...]
    # By their names; all, if there are none.
    scenarios: tuple[str, ...]
    # How often each scenario is played, its cases in turn; and each case at least.
    repetitions: int
    repetitions_of_case: int
    # Operations a second at each node.
    rate: int
    # What a lossy link loses, of 1,000 packets.
    loss_permille: int

    def quick(self):
        """Each case once, to see that everything works."""
        return replace(self, repetitions=3, repetitions_of_case=1)


@dataclass(frozen=True, kw_only=True)
class Quorums(Experiment):
    """Sizes of quorums, each in a cluster of its own, with equal disks and with unequal ones.

    Node 1 alone may lead, so that it is the same node throughout; its disk is never slowed.
    """

    # Nodes, and the sizes of phase-1 and phase-2 quorums.
    choices: tuple[tuple[int, int, int], ...]
    # How much longer each sync takes than at the node before it, one cluster for each.
    slower_ms: tuple[int, ...]
    # Operations a second where latency is measured; throughput is measured in a closed loop.
    rate: int
    repeats: int
    duration_s: float
    warmup_s: float

    def quick(self):
        """Majorities and the smallest quorums, once each."""
        fewer = tuple(choice for choice in self.choices if choice[2] in (1, choice[0] // 2 + 1))
        return replace(self, choices=fewer, repeats=1, duration_s=2)


@dataclass(frozen=True, kw_only=True)
class Reconfigure(Experiment):
    """Nodes of a loaded cluster are replaced one by one; `nodes` counts those that come, too."""

    rate: int
    # Who is in the cluster at first; and who leaves for whom, with a pause before and behind.
    members: tuple[int, ...]
    replacements: tuple[tuple[int, int], ...]
    pause_s: float
    warmup_s: float
    # The longest that the load may last; it is told to end before.
    duration_s: float

    def quick(self):
        """A smaller state, and shorter pauses."""
        return replace(self, keys=10_000, pause_s=2)


@dataclass(frozen=True, kw_only=True)
class Snapshot(Experiment):
    """A large state under load, while snapshots are taken and while none is; then how large the
    disk becomes over many writes, and how long a restart takes."""

    rate: int
    warmup_s: float
    # Each round is a calm stretch and one in which all nodes take snapshots.
    rounds: int
    stretch_s: float
    # Writes while the disk is watched, in loads of so many seconds.
    writes: int
    watched_s: float
    # The longest that the load may last; it is told to end before.
    duration_s: float

    def quick(self):
        """A smaller state, and fewer writes."""
        return replace(self, keys=100_000, rounds=2, stretch_s=4, writes=1_000_000, watched_s=10)


@dataclass(frozen=True, kw_only=True)
class Reads(Experiment):
    """Linearizable reads, each way of them in a cluster of its own: at rising rates, then while
    leaders die."""

    ways: tuple[str, ...]
    lease_ms: int
    rates: tuple[int, ...]
    repeats: int
    duration_s: float
    warmup_s: float
    # Operations a second while leaders die; how many do, half of them in either way that there is,
    # and how long each one stays dead. It is compared with as long a time just before.
    death_rate: int
    deaths: int
    dead_s: float

    def quick(self):
        """Fewer rates, once each, and fewer deaths."""
        return replace(self, rates=self.rates[::2], repeats=1, duration_s=2, deaths=4)


TIMELINE = Timeline(
    **SAME,
    name="timeline",
    title="Three nodes under load: leader killed, link cut, follower paused",
    nodes=3,
    election_timeout_ms=100,
    node_traces=True,
    clients=16,
    in_flight=1,
    op_timeout_ms=1000,
    rate=1000,
    duration_s=38,
    warmup_s=2,
    keys=1000,
    value_size=16,
    reads=0,
    workload="incr",
    check=True,
    schedule=(
        At(7, Kill("leader")),
        At(13, Restart("killed")),
        At(19, CutLink("leader", "follower")),
        At(25, HealLink()),
        At(30, Pause("follower")),
        At(34, Resume("paused")),
    ),
)

# The partitions that stop other protocols for as long as they last, and more.
PARTITION = Partition(
    **SAME,
    name="partition",
    title="Partial partitions: time until a leader serves again",
    nodes=5,
    election_timeout_ms=100,
    node_traces=True,
    clients=1,
    in_flight=64,
    # Longer than any cut: a client that dials anew would be counted with it.
    op_timeout_ms=3000,
    keys=500,
    value_size=16,
    reads=0.3,
    workload="incr",
    check=True,
    sizes=(3, 5),
    scenarios=(),
    repetitions=30,
    repetitions_of_case=3,
    rate=100,
    loss_permille=50,
)

# The same for statements of SQL: each operation inserts a row.
PARTITION_SQL = replace(
    PARTITION,
    name="partition-sql",
    title="Partial partitions: time until a leader carries out SQL again",
    workload="sql",
    # Of keys only.
    reads=0.0,
    check=False,
    histories=False,
    scenarios=("quorum-loss", "constrained", "chained"),
)

QUORUMS = Quorums(
    **SAME,
    name="quorums",
    title="Sizes of quorums: latency and throughput at 5 and 7 nodes",
    nodes=7,
    # Seven nodes and a closed loop on few processors: nobody shall take slowness for death.
    election_timeout_ms=500,
    node_traces=False,
    clients=64,
    in_flight=4,
    op_timeout_ms=1000,
    keys=1000,
    value_size=256,
    reads=0,
    workload="put",
    check=False,
    choices=((5, 3, 3), (5, 4, 2), (5, 5, 1), (7, 4, 4), (7, 5, 3), (7, 6, 2), (7, 7, 1)),
    slower_ms=(0, 2),
    rate=500,
    repeats=3,
    duration_s=3,
    warmup_s=1,
)

READS = Reads(
    **SAME,
    name="reads",
    title="Linearizable reads by the leader, by its lease, and by quorums at all replicas",
    nodes=3,
    election_timeout_ms=100,
    node_traces=False,
    clients=64,
    in_flight=16,
    op_timeout_ms=1000,
    keys=1000,
    value_size=256,
    reads=0.9,
    workload="put",
    check=False,
    ways=("leader", "lease", "quorum"),
    lease_ms=100,
    rates=(1000, 10000, 25000, 50000, 100000, 150000),
    repeats=3,
    duration_s=3,
    warmup_s=1,
    death_rate=1000,
    deaths=8,
    dead_s=1.5,
)

RECONFIGURE = Reconfigure(
    **SAME,
    name="reconfigure",
    title="Three nodes under load: one replaced, then all of them, one by one",
    # Three members, and four that come.
    nodes=7,
    election_timeout_ms=100,
    node_traces=True,
    clients=32,
    in_flight=4,
    op_timeout_ms=1000,
    keys=200_000,
    value_size=256,
    # Any share of reads has all keys written before the load.
    reads=0.1,
    workload="put",
    check=False,
    rate=2000,
    members=(1, 2, 3),
    replacements=((3, 4), (1, 5), (2, 6), (4, 7)),
    pause_s=6,
    warmup_s=1,
    duration_s=3600,
)

SNAPSHOT = Snapshot(
    **SAME,
    name="snapshot",
    title="Snapshots of a million keys under load; the disk over ten million writes",
    nodes=3,
    election_timeout_ms=200,
    node_traces=False,
    clients=64,
    in_flight=16,
    op_timeout_ms=2000,
    keys=1_000_000,
    value_size=256,
    # Any share of reads has all keys written before the load.
    reads=0.1,
    workload="put",
    check=False,
    rate=2000,
    warmup_s=3,
    rounds=3,
    stretch_s=20,
    writes=10_000_000,
    watched_s=60,
    duration_s=3600,
)

SMOKE = replace(
    TIMELINE,
    name="smoke",
    title="Three nodes, a short load, one killed leader",
    clients=4,
    rate=200,
    duration_s=5,
    warmup_s=1,
    keys=50,
    schedule=(At(2, Kill("leader")), At(4, Restart("killed"))),
)

SAMPLE = replace(
    SMOKE,
    name="sample",
    title="Three nodes, few requests: the recorded run of the notebook's test",
    rate=80,
    duration_s=2.5,
    warmup_s=0.5,
    schedule=(At(1, Kill("leader")), At(2, Restart("killed"))),
)

SAMPLE_RECONFIGURE = replace(
    RECONFIGURE,
    name="sample-reconfigure",
    title="Three nodes, few requests, two replaced: recorded for the notebook's test",
    nodes=5,
    clients=4,
    in_flight=1,
    keys=50,
    value_size=16,
    rate=40,
    replacements=((3, 4), (1, 5)),
    pause_s=1,
    warmup_s=0.5,
)

EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        STEADY,
        CDF,
        SIZES,
        FAILOVER,
        COST,
        ABLATION,
        DOWNTIME,
        RECOVERY,
        MIX,
        TIMELINE,
        PARTITION,
        PARTITION_SQL,
        QUORUMS,
        READS,
        RECONFIGURE,
        SNAPSHOT,
        CALIBRATION,
        FLAP,
        LOSS,
        TIMEOUTS,
        WAN,
        SMOKE,
        SMOKE_SYSTEMS,
        SAMPLE,
        SAMPLE_RECONFIGURE,
    )
}

# Those of several systems.
COMPARISONS = [it.name for it in (STEADY, CDF, SIZES, FAILOVER, COST, DOWNTIME, RECOVERY, MIX)]
# `all` is each of these in turn: those that have a place in the report.
REPORTED = [
    name
    for name, experiment in EXPERIMENTS.items()
    if experiment not in (SMOKE, SMOKE_SYSTEMS, SAMPLE, SAMPLE_RECONFIGURE)
]
