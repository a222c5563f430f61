"""What every experiment says: who is built, and who loads it."""

from dataclasses import asdict, dataclass

from shaping import Shape, uniform


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What is built and who loads it; what is done with it say the kinds of experiments below."""

    name: str
    title: str
    # The network: how many hosts, delay and loss on the way from each node to each other one, and
    # TCP's manners.
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
    # reply it asks another node.
    clients: int
    in_flight: int
    op_timeout_ms: int
    keys: int
    value_size: int
    reads: float
    workload: str
    check: bool
    seed: int

    def as_json(self):
        """All parameters as plain values, and the kind of experiment."""
        return {"kind": type(self).__name__.lower(), **asdict(self)}

    def shapes(self):
        """What happens to packets between hosts, by their names; nothing where none is named."""
        shape = Shape(self.delay_ms, self.jitter_ms, self.loss_percent)
        return {} if shape == Shape() else uniform(node_names(self.nodes), shape)

    def is_shaped(self):
        """Whether links are shaped at any time."""
        return bool(self.shapes())


def node_names(nodes):
    """The names of the nodes' hosts."""
    return [f"n{node}" for node in range(1, nodes + 1)]


# What is the same in all of them: a network that does nothing but carry, and a log on the disk.
# Histories take a tenth of a microsecond an operation.
SAME = {
    "client_hosts": 1,
    "delay_ms": 0,
    "jitter_ms": 0,
    "loss_percent": 0,
    "congestion_control": "cubic",
    "request_timeout_ms": 5000,
    "segment_mib": 64,
    "sync": True,
    "histories": True,
    "seed": 1,
}
