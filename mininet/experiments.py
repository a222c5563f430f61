"""The experiments: each a frozen value with every parameter spelled out, saved with its runs."""

from dataclasses import asdict, dataclass, replace

from faults import At, CutLink, HealLink, Isolate, KeepOnly, Kill, Pause, Restart, Resume


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What is built, how it is loaded, and what is done to it."""

    name: str
    title: str
    # The network: how many hosts, one-way delay and loss at every node, and TCP's manners.
    nodes: int
    client_hosts: int
    delay_ms: float
    jitter_ms: float
    loss_percent: float
    congestion_control: str
    # The system.
    election_timeout_ms: int
    request_timeout_ms: int
    segment_mib: int
    sync: bool
    node_traces: bool
    # Whether clients record what `loggos check` judges (about 20 bytes an operation).
    histories: bool
    # The load: connections, how many operations each has under way, and after how long without a
    # reply it asks another node. `rate` operations a second over all of them (None: as fast as
    # replies come), or one run of the load for each of `rates`, `repeats` times over.
    clients: int
    in_flight: int
    op_timeout_ms: int
    rate: int | None
    rates: tuple[int, ...]
    repeats: int
    duration_s: float
    warmup_s: float
    keys: int
    value_size: int
    reads: float
    workload: str
    check: bool
    seed: int
    # What goes wrong, in seconds from the start of the load, its warm-up included.
    schedule: tuple[At, ...]

    def as_json(self):
        """All parameters, the schedule included, as plain values."""
        events = [
            {"seconds": e.seconds, "action": type(e.action).__name__, **asdict(e.action)}
            for e in self.schedule
        ]
        return {**asdict(self), "schedule": events}

    def quick(self):
        """The same in about half the time, to see that everything works."""
        if self.rates:
            return replace(self, rates=self.rates[::3], repeats=1, duration_s=3, warmup_s=1)
        return replace(
            self,
            duration_s=self.duration_s / 2,
            warmup_s=self.warmup_s / 2,
            schedule=tuple(replace(event, seconds=event.seconds / 2) for event in self.schedule),
        )


FAILOVER = Experiment(
    name="failover",
    title="Three nodes under load: leader killed, link cut, follower paused",
    nodes=3,
    client_hosts=1,
    delay_ms=0,
    jitter_ms=0,
    loss_percent=0,
    congestion_control="cubic",
    election_timeout_ms=100,
    request_timeout_ms=5000,
    segment_mib=64,
    sync=True,
    node_traces=True,
    histories=True,
    clients=16,
    in_flight=1,
    op_timeout_ms=1000,
    rate=1000,
    rates=(),
    repeats=1,
    duration_s=38,
    warmup_s=2,
    keys=1000,
    value_size=16,
    reads=0,
    workload="incr",
    check=True,
    seed=1,
    schedule=(
        At(7, Kill("leader")),
        At(13, Restart("killed")),
        At(19, CutLink("leader", "follower")),
        At(25, HealLink()),
        At(30, Pause("follower")),
        At(34, Resume("paused")),
    ),
)

# The partitions of the Omni-Paxos paper that stop other protocols for as long as they last. Clients
# reach all nodes throughout.
PARTITIONS = replace(
    FAILOVER,
    name="partitions",
    title="Five nodes, partial partitions: hub, leader alone, one way",
    nodes=5,
    duration_s=40,
    schedule=(
        # Quorum loss: the leader lives and is heard, but only another node reaches a quorum.
        At(7, KeepOnly("follower")),
        At(13, HealLink()),
        # The leader alone: all others go on without it.
        At(19, Isolate("leader")),
        At(25, HealLink()),
        # One way: the follower hears nothing from the leader, which hears the follower.
        At(31, CutLink("leader", "follower", one_way=True)),
        At(37, HealLink()),
    ),
)

STEADY = replace(
    FAILOVER,
    name="steady",
    title="Latency against throughput: three nodes, rising offered load",
    # Traces of every request would take part of the processor that is being measured; histories
    # take a tenth of a microsecond an operation.
    node_traces=False,
    clients=64,
    in_flight=16,
    rate=None,
    rates=(1000, 10000, 25000, 50000, 75000, 100000, 125000, 150000, 200000, 250000, 300000),
    repeats=3,
    duration_s=4,
    warmup_s=1,
    workload="put",
    value_size=256,
    check=False,
    schedule=(),
)

SMOKE = replace(
    FAILOVER,
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

EXPERIMENTS = {
    experiment.name: experiment for experiment in (FAILOVER, PARTITIONS, STEADY, SMOKE, SAMPLE)
}
