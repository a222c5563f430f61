"""The chapter on state and members: snapshots, and nodes that come and go."""

from matplotlib.figure import Figure

from loggos import plots_reconfigure, plots_snapshot
from loggos.report.entry import Entry, Published
from loggos.report.faults import ONE_RUN, OVER_TIME


def _draw_replacements(published: Published) -> Figure:
    return plots_reconfigure.timeline(
        published.csv("timeline-windows"),
        published.csv("timeline-marks"),
        published.csv("timeline-sent"),
    )


def _draw_latency(published: Published) -> Figure:
    return plots_snapshot.latency(published.csv("latency-windows"), published.csv("latency-marks"))


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
    draw={"timeline": _draw_replacements},
    tables={"timeline": (*OVER_TIME, "timeline-sent")},
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
    draw={
        "latency": _draw_latency,
        "disk": lambda it: plots_snapshot.disk(it.csv("disk")),
    },
    tables={"latency": ("latency-windows", "latency-marks"), "disk": ("disk",)},
)

ENTRIES = (RECONFIGURE, SNAPSHOT)
