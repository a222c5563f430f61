"""The chapter on state and members: snapshots, and nodes that come and go."""

from loggos.report.entry import Entry
from loggos.report.faults import ONE_RUN

RECONFIGURE = Entry(
    name="reconfigure",
    title="All nodes replaced, one by one",
    shows="Throughput, latency and bytes sent while one node, and then the whole membership, is "
    "replaced under load.",
    unfair="Loggos alone. New nodes fetch the state over links without delay, and their disks are "
    "the same as everybody's: on real networks a step takes longer.",
    interval=ONE_RUN,
    needs=("step", "longest_gap_ms"),
    figures={"timeline": "Throughput, latency and bytes sent while nodes are replaced"},
)

SNAPSHOT = Entry(
    name="snapshot",
    title="Snapshots of a million keys",
    shows="Latency while all nodes take snapshots and while none does; its own page has the disk "
    "over ten million writes, and restarts.",
    unfair="Loggos alone. All nodes take snapshots at the same time, one behind the other, on one "
    "disk: more than nodes do by themselves.",
    interval=ONE_RUN,
    needs=("when", "p99.9_ms"),
    figures={
        "latency": "Latency over time, with and without snapshots",
        "disk": "Size of the data directories over the writes",
    },
)

ENTRIES = (RECONFIGURE, SNAPSHOT)
