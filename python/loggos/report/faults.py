"""The chapter on faults: how long nobody is served, and what elections there are."""

import pandas as pd
from matplotlib.figure import Figure

from loggos import (
    partition,
    plots,
    plots_compare,
    plots_downtime,
    plots_flap,
    plots_partition,
    plots_recovery,
    plots_timeouts,
    recovery,
)
from loggos.report.entry import Entry, Published
from loggos.report.short import columns, everything
from loggos.report.speed import SHARED, T_INTERVAL

ONE_RUN = "one run; what varies within it stands in the table"
# The tables of a figure over time.
OVER_TIME = ("timeline-windows", "timeline-marks")
MEAN_CI = "mean ± half its 95 % t interval"


def _failover(published: Published) -> pd.DataFrame:
    names = {
        "event": "event", "system": "system", "n": "n", "downtime_ms": "downtime ms",
        "max_ms": "longest ms", "not_back": "not back",
    }  # fmt: skip
    return columns(published.csv(), names)


def _timeline(published: Published) -> pd.DataFrame:
    names = ("at_s", "fault", "downtime_ms", "elected_ms", "mean_per_s", "p50_ms", "p99_ms")
    return published.csv()[list(names)]


def _draw_timeline(published: Published) -> Figure:
    windows, marks = published.csv("timeline-windows"), published.csv("timeline-marks")
    experiment = published.run.experiment
    return plots.timeline(windows, marks, experiment.get("rate"), experiment.get("title"))


def _draw_election(published: Published) -> Figure:
    marks = published.csv("election-marks")
    return plots.election(marks[marks["event"] == 1])


def _draw_crashes(published: Published) -> Figure:
    return plots_compare.timelines(
        published.csv("timeline-windows"), published.csv("timeline-marks")
    )


def _partition(published: Published) -> pd.DataFrame:
    table = published.csv().rename(columns={"ci95": "mean_ci95"})
    names = {
        "scenario": "scenario", "nodes": "nodes", "n": "n", "median": "median",
        "mean": "mean", "max": "longest", "above_bar": "above the bar", "after": "elected later",
    }  # fmt: skip
    return columns(table, names)


def _away(published: Published) -> Figure:
    return plots_partition.away(published.csv("cuts"), partition.BAR_TIMEOUTS)


def _flap(published: Published) -> pd.DataFrame:
    names = {
        "link": "link", "period_s": "period s", "n": "n", "served_percent": "served %",
        "worst_percent": "worst client %", "in_time_percent": "in time %",
        "elections_per_minute": "elections/min",
    }  # fmt: skip
    return columns(published.csv(), names)


def _timeouts(published: Published) -> pd.DataFrame:
    names = {
        "round_trip_ms": "round trip ms", "factor": "timeout/round trip", "n": "n",
        "false_per_minute": "false elections/min", "served_percent": "served %",
        "down_ms": "downtime ms", "not_back": "not back",
    }  # fmt: skip
    return columns(published.csv(), names)


FAILOVER = Entry(
    name="failover",
    title="Crashes of a leader and of a follower",
    shows="How long clients of each system get no reply when its leader or a follower is killed "
    "and when it comes back, at 1,000 operations a second.",
    unfair="Every system has the same election timeout, as far as it takes one; what a client "
    "does when its node is gone is the load generator's doing and part of the downtime. Random "
    "arrivals alone leave gaps of about ten milliseconds (`no fault`). Systems that forget what "
    "they promised can't take part. " + SHARED,
    interval=T_INTERVAL,
    table=_failover,
    needs=("event", "system", "downtime_ms_half"),
    figures={"timeline": "Throughput over time", "downtime": "Downtime"},
    draw={
        "timeline": _draw_crashes,
        "downtime": lambda it: plots_compare.downtimes(it.csv("downtimes")),
    },
    tables={"timeline": OVER_TIME, "downtime": ("downtimes",)},
)

TIMELINE = Entry(
    name="timeline",
    title="One load, and faults one after the other",
    shows="Throughput and latency of three nodes while the leader is killed, a link is cut and a "
    "follower pauses; and where the time of a request goes.",
    unfair="Loggos alone, one run: an illustration, not a distribution.",
    interval=ONE_RUN,
    table=_timeline,
    needs=("fault", "downtime_ms"),
    figures={
        "timeline": "Throughput and latency over time",
        "election-1": "The election after the leader was killed",
        "stages": "Latency by stage",
    },
    draw={
        "timeline": _draw_timeline,
        "election-1": _draw_election,
        "stages": lambda it: plots.stage_latency(it.csv("stages")),
    },
    tables={"timeline": OVER_TIME, "election-1": ("election-marks",), "stages": ("stages",)},
)

PARTITION = Entry(
    name="partition",
    title="Partial partitions",
    shows="How many election timeouts it takes until a leader serves again in partial partitions "
    "of every kind, among three and among five nodes.",
    unfair="Loggos alone; figures of other protocols stand in their papers, of other machines and "
    "other timeouts. A cut comes when all nodes hear each other and are level.",
    interval="courses of one run; mean ± half its 95 % t interval",
    table=_partition,
    needs=("scenario", "above_bar"),
    figures={"away": "Time without service"},
    draw={"away": _away},
)

PARTITION_SQL = Entry(
    name="partition-sql",
    title="Partial partitions under SQL",
    shows="Three of the partial partitions for statements of SQL, each of which inserts a row.",
    unfair=PARTITION.unfair,
    interval=PARTITION.interval,
    table=_partition,
    needs=PARTITION.needs,
    figures=PARTITION.figures,
    draw=PARTITION.draw,
)

DOWNTIME = Entry(
    name="downtime",
    title="Downtime by partition and election timeout",
    shows="How long nobody is served, by the kind of partial partition and the election timeout, "
    "several systems with the same clients.",
    unfair="An election timeout is what each system calls so: of Loggos a heartbeat round, of "
    "etcd the least time for which a follower waits. Each node has a client of its own, whatever "
    "the system's own clients would do. " + SHARED,
    interval=T_INTERVAL,
    table=lambda it: everything(it.csv()),
    needs=("scenario", "timeout_ms", "downtime_ms_half"),
    figures={"downtime": "Downtime by kind of partition and election timeout"},
    draw={"downtime": lambda it: plots_downtime.systems(it.csv())},
)

FLAP = Entry(
    name="flap",
    title="A flapping link",
    shows="Who is served while a link goes down and comes back, by the period of that.",
    unfair="Loggos alone. Each node has a client of its own that talks to no other, which is "
    "harder than what clients usually do.",
    interval=MEAN_CI,
    table=_flap,
    needs=("link", "period_s", "served_percent_ci95"),
    figures={"flap": "Availability against the period of a flapping link"},
    draw={"flap": lambda it: plots_flap.flap(it.csv())},
)

TIMEOUTS = Entry(
    name="timeouts",
    title="Election timeouts",
    shows="False elections and downtime by the election timeout in round trips between nodes.",
    unfair="Loggos alone. Processors that all nodes share make a node late as well: a timeout "
    "that is too short here may do on machines of their own.",
    interval=MEAN_CI,
    table=_timeouts,
    needs=("round_trip_ms", "factor", "down_ms_ci95"),
    figures={"timeouts": "False elections, and downtime"},
    draw={"timeouts": lambda it: plots_timeouts.timeouts(it.csv())},
)

RECOVERY = Entry(
    name="recovery",
    title="Recovery",
    shows="How long a node takes to come back: restart, catch-up, and repair of a damaged log, by "
    "the size of log and state.",
    unfair="No load runs meanwhile. Only Loggos can be told to truncate, and repairs a damaged "
    "log, so only it takes those two steps; all nodes share one disk and one page cache.",
    interval=T_INTERVAL,
    table=lambda it: everything(it.csv()),
    needs=("step", "system", "seconds_half"),
    figures={"recovery": "How long a node takes to come back"},
    draw={"recovery": lambda it: plots_recovery.recovery(it.csv(), recovery.STEPS)},
)

ENTRIES = (
    FAILOVER, TIMELINE, PARTITION, PARTITION_SQL, DOWNTIME, FLAP, TIMEOUTS, RECOVERY,
)  # fmt: skip
