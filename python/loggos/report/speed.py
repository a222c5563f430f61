"""The chapter on speed: what a cluster without faults does, and what that costs."""

import pandas as pd
from matplotlib.figure import Figure

from loggos import (
    ablation,
    cdf,
    plots_ablation,
    plots_compare,
    plots_mix,
    plots_quorums,
    plots_reads,
    steady,
)
from loggos.bench import figure as bench_figure
from loggos.report.entry import Entry, Published
from loggos.report.short import columns, everything

T_INTERVAL = "mean over the repetitions ± half its 95 % t interval"
MEDIAN = "median of the repeats (lowest–highest)"
SHARED = (
    "All nodes, clients and load generators share the processors and the disk of one machine: who "
    "needs less of them has more of them left."
)


def _knees(published: Published) -> pd.DataFrame:
    points = published.csv()
    found = steady.knees(points).rename(columns={"± 95 %": "operations/s_half"})
    names = ("system", "operations/s", "p50 ms", "p99 ms", "mean ms", "repeats", "what")
    return columns(found, {name: name for name in names})


def _cdf(published: Published) -> pd.DataFrame:
    names = {"load": "load", "system": "system", "rate": "operations/s"}
    percentiles = {f"p{which}": f"p{which} ms" for which in ("50", "90", "99", "99.9")}
    return columns(published.csv(), names | percentiles)


def _draw_cdf(published: Published) -> Figure:
    points = published.csv("cdf-points")
    titles = cdf.titles(points, published.run.experiment["share"])
    return plots_compare.distributions(points, titles)


def _draw_ablation(published: Published) -> Figure:
    return plots_ablation.worth(published.csv(), published.csv("cuts-summary"), ablation.WORDS)


def _sizes(published: Published) -> pd.DataFrame:
    names = {"system": "system", "nodes": "nodes", "achieved": "operations/s"}
    return columns(published.csv(), names | {"p50": "p50 ms", "p99": "p99 ms"})


def _cost(published: Published) -> pd.DataFrame:
    table = published.csv()
    names = {
        "system": "system", "achieved": "operations/s", "cpu_us": "processor µs",
        "packets": "packets", "bytes": "bytes sent", "syncs": "syncs", "rss_mib": "memory MiB",
    }  # fmt: skip
    return columns(table[table["load"] == "closed"], names)


def _bench(published: Published) -> pd.DataFrame:
    table = published.csv("puts")
    table = table[table["load"].isin(["puts-1", "puts-64", "puts-256", "reads-64"])].copy()
    for name in ("p50", "p99"):
        for end in ("", "_low", "_high"):
            table[f"{name}{end}"] = table[f"{name}_us{end}"] / 1e3
    names = {"load": "load and clients", "system": "system", "throughput": "operations/s"}
    return columns(table, names | {"p50": "p50 ms", "p99": "p99 ms"})


def _quorums(published: Published) -> pd.DataFrame:
    names = {
        "nodes": "nodes", "q1": "q1", "q2": "q2", "slower_ms": "slower ms", "p50_ms": "p50 ms",
        "p99_ms": "p99 ms", "achieved": "operations/s",
    }  # fmt: skip
    return columns(published.csv(), names)


def _reads(published: Published) -> pd.DataFrame:
    names = {
        "way": "way", "offered": "offered/s", "achieved": "achieved/s", "p50_ms": "p50 ms",
        "p99_ms": "p99 ms", "busiest_percent": "busiest node %",
    }  # fmt: skip
    return columns(published.csv(), names)


STEADY = Entry(
    name="steady",
    title="Latency against throughput",
    shows="Median and 99th percentile at rising offered load, up to the knee: the highest load "
    "that a system still keeps up with. Redis, one node without replication, is the ceiling.",
    unfair=f"{SHARED} LibPaxos is loaded in a closed loop by a client of its own, whose latency "
    "leaves out what waits outside; systems that keep their log in memory only are drawn hollow "
    "and dashed.",
    interval=T_INTERVAL,
    table=_knees,
    needs=("system", "p50_half", "knee"),
    figures={
        "latency-throughput": "Latency against throughput",
        "achieved": "Achieved against offered load",
    },
    draw={
        "latency-throughput": lambda it: plots_compare.latency_throughput(it.csv()),
        "achieved": lambda it: plots_compare.offered_achieved(it.csv()),
    },
)

CDF = Entry(
    name="cdf",
    title="Distribution of latency",
    shows="How long how many of the operations take, at a light load that is the same for all, "
    "and at a share of what each system achieves.",
    unfair=f"At the share of its own throughput a faster system is asked for more. {SHARED}",
    interval=T_INTERVAL,
    table=_cdf,
    needs=("system", "load", "p99.9_half"),
    figures={"cdf": "Distributions of latency"},
    draw={"cdf": _draw_cdf},
    tables={"cdf": ("cdf-points",)},
)

SIZES = Entry(
    name="sizes",
    title="Size of the cluster",
    shows="Throughput of a closed loop, and the latency of one operation at a time, with 3 to 9 "
    "nodes.",
    unfair="More nodes share the same processors, so a larger cluster has fewer of them for each "
    "node; on machines of their own the fall would be less steep.",
    interval=T_INTERVAL,
    table=_sizes,
    needs=("system", "nodes", "p50_half"),
    figures={"sizes": "Throughput and latency by cluster size"},
    draw={"sizes": lambda it: plots_compare.sizes(it.csv())},
)

COST = Entry(
    name="cost",
    title="What an operation costs",
    shows="Processor time, memory, packets, bytes and syncs for an operation of a closed loop; "
    "the light load is in the experiment's own page.",
    unfair="Who batches more under load pays less for each operation. Syncs are counted under "
    "strace in cells of their own. LMDB writes one page through a descriptor that syncs by "
    "itself, which is in no count of calls.",
    interval=T_INTERVAL,
    table=_cost,
    needs=("system", "load", "cpu_us_half"),
    figures={"cost": "What an operation costs"},
    draw={"cost": lambda it: plots_compare.costs(it.csv(), "closed")},
)

BENCH = Entry(
    name="bench",
    title="Beside other systems without Mininet",
    shows="Closed loops of 1 to 256 clients over loopback, Loggos beside etcd, Redis and "
    "ZooKeeper; its own page has the bars that the project set itself, and which it missed.",
    unfair="Each system by the load generator's own client. Redis is one node that syncs before "
    "it replies; reads of ZooKeeper are of the leader's state, which is less than linearizable. "
    "A closed loop asks less of a slow system. All nodes and the load generator share one machine.",
    interval="median of the repetitions (95 % t interval of their geometric mean)",
    table=_bench,
    source="puts",
    needs=("system", "load", "p50_us_low"),
    figures={"throughput": "Throughput and latency by clients"},
    draw={"throughput": lambda it: bench_figure.draw(it.csv("puts"))},
    command="sudo make bench PEERS=etcd,redis,zookeeper",
    publish="python -m loggos.bench --publish RUN",
)

ABLATION = Entry(
    name="ablation",
    title="What each optimisation brings",
    shows="The same load with one optimisation switched off at a time: batching, pipelining, "
    "the skipped phase 1, group commit; and downtime without the quorum-connected election.",
    unfair="Each is taken away by itself; together they may matter more, or less, than their sum.",
    interval=T_INTERVAL,
    table=lambda it: everything(it.csv()),
    figures={"ablation": "What each optimisation is worth"},
    draw={"ablation": _draw_ablation},
    tables={"ablation": ("cuts-summary",)},
)

MIX = Entry(
    name="mix",
    title="Share of reads and skew of keys",
    shows="Throughput and latency by the share of linearizable reads and the skew of keys, Loggos "
    "in its three ways of reading beside other systems.",
    unfair=SHARED,
    interval=T_INTERVAL,
    table=lambda it: everything(it.csv()),
    needs=("way", "skew", "share", "achieved_half"),
    figures={"mix": "Throughput and latency by the share of reads"},
    # The way is empty where a system has no choice.
    draw={"mix": lambda it: plots_mix.mixes(it.csv().fillna({"way": ""}))},
)

QUORUMS = Entry(
    name="quorums",
    title="Sizes of quorums",
    shows="Latency and throughput by the size of the phase-2 quorum, with equal disks and with "
    "disks of which each is slower than the one before.",
    unfair="A smaller phase-2 quorum is paid for with a larger one of phase 1: fewer nodes may be "
    "down when a leader is elected. Slower disks are made by strace, which holds each sync. "
    f"{SHARED}",
    interval=MEDIAN,
    table=_quorums,
    needs=("q2", "p50_ms_low"),
    figures={"quorums": "Latency and throughput by the size of the phase-2 quorum"},
    draw={"quorums": lambda it: plots_quorums.quorums(it.csv())},
)

READS = Entry(
    name="reads",
    title="Linearizable reads",
    shows="Reads by the leader, by its lease and by quorums at all replicas: latency against "
    "throughput, how nodes share the work, and what the death of a leader costs each of them.",
    unfair="Quorum reads spread their work over nodes that here share two processors, so the "
    "gain of several machines does not show; the busiest node's share tells where it would end.",
    interval=MEDIAN,
    table=_reads,
    needs=("way", "busiest_percent"),
    figures={
        "reads": "Latency against throughput, and how nodes share the work",
        "deaths": "Replies around a leader's death, and the longest times without any",
    },
    draw={
        "reads": lambda it: plots_reads.load(it.csv()),
        "deaths": lambda it: plots_reads.deaths(it.csv("deaths-windows"), it.csv("deaths")),
    },
    tables={"deaths": ("deaths-windows", "deaths")},
)

ENTRIES = (STEADY, CDF, SIZES, COST, MIX, BENCH, ABLATION, QUORUMS, READS)
