"""The experiments about links: how well they are shaped, and what the cluster makes of it.

Data only, as in `experiments.py`: what is done with them is in the files of their names.
"""

from dataclasses import asdict, dataclass, replace

from experiment import SAME, Experiment
from shaping import Shape

# Round trips in ms between regions of Amazon EC2, as emulated by M. Burke, A. Cheng and W. Lloyd,
# "Gryff: Unifying Consensus and Shared Registers", NSDI 2020, with 0.2 ms within each.
REGIONS = ("California", "Virginia", "Ireland", "Oregon", "Japan")
ROUND_TRIPS_MS = (
    (0.2, 72, 151, 59, 113),
    (72, 0.2, 88, 93, 162),
    (151, 88, 0.2, 145, 220),
    (59, 93, 145, 0.2, 121),
    (113, 162, 220, 121, 0.2),
)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Shapes, each set on the link between two hosts and measured. There is no cluster."""

    name: str
    title: str
    nodes: int
    client_hosts: int
    congestion_control: str
    # On the way from the first host to the second; nothing happens on the way back.
    packets: tuple[Shape, ...]
    # On both ways, because TCP needs them.
    streams: tuple[Shape, ...]
    repeats: int
    count: int
    interval_us: int
    packet_size: int
    stream_s: float
    seed: int

    def as_json(self):
        """All parameters as plain values, and the kind of experiment."""
        return {"kind": "calibration", **asdict(self)}

    def quick(self):
        """Fewer packets, once."""
        return replace(
            self, packets=self.packets[::2], streams=self.streams[::2], repeats=1, count=1000,
            stream_s=1,
        )  # fmt: skip

    def shapes(self):
        """None at the beginning."""
        return {}

    def is_shaped(self):
        """Whether links are shaped at any time."""
        return True

    def words(self):
        """What is done, line by line."""
        yield f"{len(self.packets)} shapes for packets, {len(self.streams)} for TCP"
        yield f"{self.repeats} times, {self.count:,} packets each"


CALIBRATION = Calibration(
    name="calibration",
    title="Are links what they are asked to be: delay, jitter, loss, order, throughput",
    nodes=2,
    client_hosts=0,
    congestion_control="cubic",
    packets=(
        *(Shape(delay_ms) for delay_ms in (0, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)),
        *(Shape(20, jitter_ms) for jitter_ms in (1, 2, 5, 10, 20)),
        *(Shape(5, 0, loss) for loss in (0.5, 1, 2, 5, 10)),
        *(Shape(20, 0, 0, reorder) for reorder in (1, 2, 5, 10, 25)),
    ),
    streams=(
        *(Shape(delay_ms) for delay_ms in (0, 0.5, 1, 5, 10, 50)),
        *(Shape(5, 0, loss) for loss in (0.1, 0.5, 1, 2, 5)),
    ),
    repeats=3,
    count=3000,
    interval_us=1000,
    packet_size=200,
    stream_s=3,
    seed=1,
)


@dataclass(frozen=True, kw_only=True)
class Wan(Experiment):
    """Regions, each with a node and clients; node 1 and client host 1 are in the first, ..."""

    regions: tuple[str, ...]
    # Between each two, and within each.
    round_trips_ms: tuple[tuple[float, ...], ...]
    # The regions that lead, one after the other.
    leaders: tuple[str, ...]
    ways: tuple[str, ...]
    lease_ms: int
    # Operations a second in each region.
    rate: int
    repeats: int
    duration_s: float
    warmup_s: float

    def quick(self):
        """One leader, one repeat."""
        return replace(self, leaders=self.leaders[:1], repeats=1, duration_s=6)

    def shapes(self):
        """Nodes and clients as far from each other as their regions are."""
        found = {}
        for a, trips in enumerate(self.round_trips_ms, 1):
            for b, trip_ms in enumerate(trips, 1):
                one_way = Shape(trip_ms / 2)
                if a != b:
                    found[f"n{a}", f"n{b}"] = one_way
                found[f"c{a}", f"n{b}"] = found[f"n{b}", f"c{a}"] = one_way
        return found

    def words(self):
        """What is done, line by line."""
        yield f"a node and clients in {', '.join(self.regions)}"
        yield f"led from {', '.join(self.leaders)}; reads by {', '.join(self.ways)}"
        yield f"{self.repeats} times {self.duration_s:g} s, {self.rate} operations/s a region"


WAN = Wan(
    **SAME | {"client_hosts": len(REGIONS)},
    name="wan",
    title="Five regions of a public cloud: latency of writes and of reads, by region",
    nodes=len(REGIONS),
    # Nine times the longest round trip.
    election_timeout_ms=2000,
    node_traces=False,
    clients=8,
    in_flight=4,
    op_timeout_ms=5000,
    keys=100,
    value_size=16,
    reads=0.5,
    workload="incr",
    check=True,
    regions=REGIONS,
    round_trips_ms=ROUND_TRIPS_MS,
    # From the middle of the others, and from their edge.
    leaders=("Virginia", "Japan"),
    ways=("leader", "lease", "quorum"),
    lease_ms=1000,
    rate=50,
    repeats=5,
    duration_s=15,
    warmup_s=2,
)


@dataclass(frozen=True, kw_only=True)
class Loss(Experiment):
    """Shapes of the links between nodes, one after the other in one cluster: elections and latency
    at a steady rate, then throughput in a closed loop."""

    cells: tuple[Shape, ...]
    rate: int
    repeats: int
    duration_s: float
    warmup_s: float
    # Of the closed loop.
    closed_s: float

    def quick(self):
        """Nothing wrong, and the worst of each, once."""
        worst = (self.cells[0], *self.cells[5::3])
        return replace(self, cells=worst, repeats=1, duration_s=5, closed_s=2)

    def is_shaped(self):
        """Whether links are shaped at any time."""
        return True

    def words(self):
        """What is done, line by line."""
        yield f"{self.nodes} nodes, {len(self.cells)} shapes of the links between them"
        yield f"{self.repeats} times: {self.duration_s:g} s at {self.rate:,} operations/s,"
        yield f"{self.closed_s:g} s in a closed loop"


LOSS = Loss(
    **SAME,
    name="loss",
    title="Loss, jitter and reordering between nodes: elections, latency, throughput",
    nodes=3,
    # Ten round trips.
    election_timeout_ms=100,
    node_traces=True,
    clients=32,
    in_flight=1,
    op_timeout_ms=5000,
    keys=1000,
    value_size=256,
    reads=0,
    workload="put",
    check=False,
    cells=(
        *(Shape(5, 0, loss) for loss in (0, 0.1, 0.5, 1, 2, 5)),
        *(Shape(5, jitter) for jitter in (1, 2.5, 5)),
        *(Shape(5, 0, 0, reorder) for reorder in (1, 5, 25)),
    ),
    rate=500,
    repeats=5,
    duration_s=10,
    warmup_s=1,
    closed_s=4,
)


@dataclass(frozen=True, kw_only=True)
class Timeouts(Experiment):
    """Election timeouts against round trips: a cluster for each pair, watched while nothing is
    wrong, and then while leaders die, again and again."""

    round_trips_ms: tuple[float, ...]
    # Election timeouts in round trips.
    factors: tuple[float, ...]
    # Operations a second at each node.
    rate: int
    repeats: int
    # How long nothing is wrong, each time.
    calm_s: float
    # How long a leader stays dead, in election timeouts, and at least.
    dead_timeouts: float
    dead_s_min: float

    def quick(self):
        """Fewer timeouts, twice each."""
        return replace(self, factors=self.factors[::3], repeats=2, calm_s=4)

    def is_shaped(self):
        """Whether links are shaped at any time."""
        return True

    def words(self):
        """What is done, line by line."""
        trips = ", ".join(f"{trip:g}" for trip in self.round_trips_ms)
        yield f"{self.nodes} nodes, round trips of {trips} ms, election timeouts of"
        yield f"{', '.join(f'{factor:g}' for factor in self.factors)} round trips"
        yield f"{self.repeats} times: {self.calm_s:g} s calm, then the leader dies"


TIMEOUTS = Timeouts(
    **SAME,
    name="timeouts",
    title="Election timeouts against round trips: false elections, and downtime",
    nodes=3,
    # Set anew for each cluster.
    election_timeout_ms=100,
    node_traces=True,
    clients=1,
    in_flight=64,
    op_timeout_ms=10_000,
    keys=500,
    value_size=16,
    reads=0,
    workload="incr",
    check=True,
    round_trips_ms=(10, 50),
    factors=(1, 1.5, 2, 3, 5, 10, 20),
    rate=100,
    repeats=5,
    calm_s=10,
    dead_timeouts=6,
    dead_s_min=1,
)


@dataclass(frozen=True, kw_only=True)
class Flap(Experiment):
    """A link that goes down and comes back, over and over: as long down as up."""

    # From one time that it goes down to the next.
    periods_s: tuple[float, ...]
    # The ends of the link: the leader, or a follower.
    links: tuple[tuple[str, str], ...]
    # Operations a second at each node.
    rate: int
    repeats: int
    stretch_s: float

    def quick(self):
        """Fewer periods, once each."""
        return replace(self, periods_s=self.periods_s[::2], repeats=1, stretch_s=4)

    def words(self):
        """What is done, line by line."""
        yield f"{self.nodes} nodes; a link is down for half of each period of"
        yield f"{', '.join(f'{period:g}' for period in self.periods_s)} s"
        for link in self.links:
            yield f"between {' and '.join(link)}"
        yield f"{self.repeats} times, {self.stretch_s:g} s each"


FLAP = Flap(
    **SAME,
    name="flap",
    title="A flapping link: availability against its period",
    nodes=3,
    election_timeout_ms=100,
    node_traces=True,
    clients=1,
    in_flight=64,
    op_timeout_ms=3000,
    keys=500,
    value_size=16,
    reads=0,
    workload="incr",
    check=True,
    periods_s=(0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2),
    links=(("leader", "follower"), ("follower", "follower")),
    rate=100,
    repeats=5,
    stretch_s=10,
)
