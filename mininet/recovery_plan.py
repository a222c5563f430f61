"""The comparison `recovery`: how long a node takes to come back, by the size of log and state.

A cell writes so much, and then follower after follower is killed and started, with nothing or as
much again written meanwhile. No load runs while a node comes back: it is level once it has applied
all that the others had when it was started.
"""

from dataclasses import dataclass, replace

from comparisons import ALIKE, Comparison

MIB = 1024 * 1024
# Keys of a small state: what is written overwrites them again and again. (Each load has keys of its
# own, so that what is written while a node is away adds as many.)
FEW_KEYS = 1000


@dataclass(frozen=True, kw_only=True)
class Recovery(Comparison):
    """Sizes of what is written, each to as many keys as there are writes, and to few."""

    # Mebibytes of values that are written, and which of a cell.
    sizes_mib: tuple[int, ...]
    written_mib: int = 0
    # Of a cell: "large" or "small".
    state: str = ""
    # Operations a second while it is written: the same history for all, at no one's limit.
    rate: int

    def unfit(self, adapter):
        """There must be others, and a log that is still there after the crash."""
        if not adapter.replicated:
            return "it is one node: there is nobody to catch up with"
        if not adapter.open_loop:
            return "its load generator keeps no rate"
        return super().unfit(adapter) if adapter.restarts else "what is killed has lost its log"

    def variants(self):
        """Each size with each state."""
        return [
            {"written_mib": mib, "state": state}
            for mib in self.sizes_mib
            for state in ("small", "large")
        ]

    def of(self, cell):
        """With the keys of the state."""
        experiment = super().of(cell)
        many = experiment.written_mib * MIB // experiment.value_size
        return replace(experiment, keys=FEW_KEYS if experiment.state == "small" else many)

    def quick(self):
        """Two small sizes, three times."""
        return replace(self, repeats=3, sizes_mib=(4, 16))

    def plan(self, adapter):
        """The steps."""
        sizes = ", ".join(str(mib) for mib in self.sizes_mib)
        yield f"{sizes} MiB written, a follower killed and started: restart"
        yield "a follower killed, as much again written, started: catch-up"
        if adapter.name == "loggos":
            yield "the same, and the log truncated before it is started: snapshot"
            yield "a follower killed, 4 KiB of its log zeroed, started: repair"


RECOVERY = Recovery(
    # The smallest segments: only whole ones are truncated. And a short timeout: a node that comes
    # back must hear a heartbeat before it can ask for what it missed.
    **{
        **ALIKE,
        "value_size": 4096,
        "segment_mib": 8,
        "election_timeout_ms": 200,
        "repeats": 3,
        "histories": False,
    },
    name="recovery",
    title="Restart, catch-up and repair, by the size of log and state",
    clients=64,
    in_flight=16,
    sizes_mib=(10, 100, 500),
    rate=2000,
    # Of each load: as long as what is to be written takes.
    duration_s=1,
    warmup_s=0,
)
