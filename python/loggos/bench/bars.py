"""What is asked of Loggos, and what was measured: pure functions from the numbers of a run.

A ratio is made within each repetition, of numbers that were measured within minutes of each other,
and only then is the median taken.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from loggos import stats

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Numbers:
    """The numbers of a run, to be asked for by what they are of."""

    frame: pd.DataFrame

    def of(self, metric: str, shape: str, system: str = "loggos", part: str = "puts") -> pd.Series:
        """One metric by repetition; empty if it was not measured."""
        rows = self.frame
        wanted = {"metric": metric, "shape": shape, "system": system, "part": part}
        for column, value in wanted.items():
            rows = rows[rows[column] == value]
        return rows.drop_duplicates("repetition", keep="last").set_index("repetition")["value"]

    def limit(self, metric: str) -> pd.Series:
        """What the machine can do."""
        return self.of(metric, "", "machine", "limits")


@dataclass(frozen=True)
class Bar:
    """One thing that is asked: a number that is at most or at least its limit. Without a limit it
    is told and not judged."""

    number: int
    what: str
    unit: str
    value: Callable[[Numbers], pd.Series]
    limit: float | None = None
    at_most: bool = False
    # How many repetitions become one number.
    by: Callable[[pd.Series], float] = pd.Series.median


def _versus(metric: str, shape: str, peer: str) -> Callable[[Numbers], pd.Series]:
    return lambda n: n.of(metric, shape) / n.of(metric, shape, peer)


def _puts(shape: str, peer: str) -> Callable[[Numbers], pd.Series]:
    return _versus("throughput", shape, peer)


def _of(metric: str, shape: str, part: str, scale: float = 1) -> Callable[[Numbers], pd.Series]:
    return lambda n: n.of(metric, shape, part=part) * scale


def _one_client(n: Numbers) -> pd.Series:
    """p50 of one client beside two round trips and one commit."""
    return n.of("p50_us", "puts-1") / (2 * n.limit("round_trip_us") + n.limit("commit_us"))


def _tail(metric: str, shape: str, part: str = "puts") -> Callable[[Numbers], pd.Series]:
    return lambda n: n.of(metric, shape, part=part) / n.of("p50_us", shape, part=part)


def _five_nodes(n: Numbers) -> pd.Series:
    of = {k: n.of("throughput", f"nodes-{k}", part="sizes") for k in (3, 5)}
    return of[5] / of[3]


def _large(size: int) -> Callable[[Numbers], pd.Series]:
    return lambda n: (
        n.of("bytes_s", f"value-{size}", part="sizes")
        / n.of("disk_share_bytes_s", "", "machine", "sizes")
    )


def _beyond_data(metric: str) -> Callable[[Numbers], pd.Series]:
    return lambda n: (
        (n.of(metric, "loaded", part="lean") - n.of("data", "loaded", part="lean")) / 1e6
    )


def _in_recovery(shape: str, above: str, below: str) -> Callable[[Numbers], pd.Series]:
    return lambda n: n.of(above, shape, part="recovery") / n.of(below, shape, part="recovery")


def _percentile(q: float) -> Callable[[pd.Series], float]:
    return lambda values: float(np.percentile(values, q))


_GAPS = {name: _of("gap_ms", name, "downtime") for name in ("default", "fast")}

BARS = (
    Bar(1, "puts, 256 clients", "k/s", _of("throughput", "puts-256", "puts", 1e-3)),
    Bar(1, "puts, 256 clients: times etcd", "x", _puts("puts-256", "etcd"), 10),
    Bar(1, "puts, 256 clients: times ZooKeeper", "x", _puts("puts-256", "zookeeper"), 5),
    Bar(1, "puts, 256 clients: times Redis", "x", _puts("puts-256", "redis"), 1.2),
    Bar(1, "puts, 64 clients: times ZooKeeper", "x", _puts("puts-64", "zookeeper"), 4),
    Bar(1, "puts, 16 clients: times ZooKeeper", "x", _puts("puts-16", "zookeeper"), 3),
    Bar(1, "puts, 64 x 16 in flight", "k/s", _of("throughput", "puts-64x16", "puts", 1e-3)),
    Bar(1, "puts, 64 x 16 in flight: times etcd", "x", _puts("puts-64x16", "etcd"), 35),
    Bar(2, "one client: p50", "us", _of("p50_us", "puts-1", "puts")),
    Bar(2, "one client: p50, of etcd's", "x", _versus("p50_us", "puts-1", "etcd"), 1 / 3, True),
    Bar(2, "one client: p50, of the machine's limit", "x", _one_client, 1.5, True),
    Bar(3, "64 clients: p99 / p50", "x", _tail("p99_us", "puts-64"), 3, True),
    Bar(3, "70 % of peak: p99.9 / p50", "x", _tail("p999_us", "open", "latency"), 10, True),
    Bar(4, "reads, 64 clients: times etcd", "x", _puts("reads-64", "etcd"), 10),
    Bar(4, "reads by quorum, 64 clients", "k/s",
        _of("throughput", "reads-64-quorum", "puts", 1e-3)),
    Bar(4, "reads by quorum: nodes that served", "", _of("nodes_served", "reads-64-quorum", "puts"),
        3),
    Bar(5, "downtime, default settings", "ms", _GAPS["default"], 250, True),
    Bar(5, "  its 95th percentile", "ms", _GAPS["default"], by=_percentile(95)),
    Bar(5, "  the longest", "ms", _GAPS["default"], by=pd.Series.max),
    Bar(5, "downtime, heartbeats of 10 ms", "ms", _GAPS["fast"], 60, True),
    Bar(5, "  its 95th percentile", "ms", _GAPS["fast"], by=_percentile(95)),
    Bar(5, "  the longest", "ms", _GAPS["fast"], by=pd.Series.max),
    Bar(6, "5 nodes, of 3 nodes' throughput", "x", _five_nodes, 0.7),
    Bar(6, "values of 64 KiB, of a third of the disk", "x", _large(64 << 10), 0.6),
    Bar(6, "values of 256 KiB, of a third of the disk", "x", _large(256 << 10), 0.6),
    Bar(6, "values of 1 MiB, of a third of the disk", "x", _large(1 << 20), 0.6),
    Bar(7, "core alone, a value", "ns", _of("ns", "core", "core"), 150, True),
    Bar(7, "core alone, allocations a value", "", _of("allocations", "core", "core"), 0, True),
    Bar(8, "binary", "MB", _of("bytes", "binary", "lean", 1e-6), 2, True),
    Bar(8, "idle: resident memory", "MB", _of("rss", "idle", "lean", 1e-6), 8, True),
    Bar(8, "  of it no files", "MB", _of("anon", "idle", "lean", 1e-6)),
    Bar(8, "idle: processor, of a core", "%", _of("cpu", "idle", "lean", 100), 0.5, True),
    Bar(8, "256 clients: resident beyond the data", "MB", _beyond_data("rss"), 64, True),
    Bar(8, "  of it no files", "MB", _beyond_data("anon")),
    Bar(9, "restart, of reading its log", "x", _in_recovery("restart", "seconds", "read_s"), 1.5,
        True),
    Bar(9, "catch-up, of the disk", "x", _in_recovery("catch-up", "bytes_s", "disk_bytes_s"), 0.8),
    Bar(9, "others' p99 while one catches up", "x",
        _in_recovery("catch-up", "p99_during_ms", "p99_before_ms"), 2, True),
)  # fmt: skip


def summary(values: pd.Series, by: Callable[[pd.Series], float] = pd.Series.median) -> dict:
    """One number for all repetitions, how sure it is, and how many they were. Around what is no
    median there is no interval."""
    values = values.dropna()
    if len(values) == 0:
        return {"value": np.nan, "low": np.nan, "high": np.nan, "n": 0}
    low, high = interval(values) if by is pd.Series.median else (np.nan, np.nan)
    return {"value": by(values), "low": low, "high": high, "n": len(values)}


def interval(values: pd.Series) -> tuple[float, float]:
    """The 95 % t interval of the mean; of logarithms where it can be, because rates, times and
    ratios vary by factors and are never negative."""
    if (values <= 0).any():
        mean, half, _ = stats.t_interval(values)
        return mean - half, mean + half
    mean, half, _ = stats.t_interval(np.log(values))
    return float(np.exp(mean - half)), float(np.exp(mean + half))


def judge(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each bar that was measured: `bar`, `what`, `value`, `low`, `high`, `n`, `unit`,
    `limit` in words and whether it is `met` (empty: it is not judged)."""
    numbers = Numbers(frame)
    rows = []
    for bar in BARS:
        found = summary(bar.value(numbers), bar.by)
        if found["n"] == 0:
            continue
        limit, met = "", ""
        if bar.limit is not None:
            limit = f"{'<=' if bar.at_most else '>='} {bar.limit:.3g}"
            value = found["value"]
            met = "yes" if (value <= bar.limit if bar.at_most else bar.limit <= value) else "no"
        rows.append(
            {"bar": bar.number, "what": bar.what, **found, "unit": bar.unit, "limit": limit,
             "met": met}
        )  # fmt: skip
    columns = ["bar", "what", "value", "low", "high", "n", "unit", "limit", "met"]
    return pd.DataFrame(rows, columns=columns)


def loads(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each system and load of the comparison: `system`, `load`, throughput and latencies
    with their intervals, what the client itself used, and by how many `times` Loggos does more."""
    numbers = Numbers(frame)
    puts = frame[frame["part"] == "puts"]
    rows = []
    for load in dict.fromkeys(puts["shape"]):
        for system in dict.fromkeys(puts[puts["shape"] == load]["system"]):
            row: dict[str, object] = {"system": system, "load": load}
            for metric in ("throughput", "p50_us", "p99_us", "p999_us"):
                found = summary(numbers.of(metric, load, system))
                row |= {metric: found["value"], f"{metric}_low": found["low"]}
                row |= {f"{metric}_high": found["high"]}
            row["client_cpu_us"] = summary(numbers.of("client_cpu_us", load, system))["value"]
            found = summary(numbers.of("throughput", load) / numbers.of("throughput", load, system))
            row |= {"times": found["value"], "times_low": found["low"], "times_high": found["high"]}
            row["n"] = int(found["n"])
            rows.append(row)
    return pd.DataFrame(rows)


# What the machine can do, in words: metric, unit and scale.
LIMITS = {
    "a commit of the log, one node": ("commit_us", "us", 1),
    "commits a second, three nodes at once": ("commits_of_3_s", "/s", 1),
    "a round trip over loopback": ("round_trip_us", "us", 1),
    "written from end to end": ("write_1_bytes_s", "MB/s", 1e-6),
    "the same by three at once": ("write_3_bytes_s", "MB/s", 1e-6),
    "read from end to end": ("read_bytes_s", "MB/s", 1e-6),
    "one way over loopback": ("stream_bytes_s", "MB/s", 1e-6),
}


def limits(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each limit of the machine: `what`, `value`, `low`, `high`, `n`, `unit`."""
    numbers = Numbers(frame)
    rows = [
        {"what": what, **summary(numbers.limit(metric) * scale), "unit": unit}
        for what, (metric, unit, scale) in LIMITS.items()
    ]
    return pd.DataFrame([row for row in rows if row["n"]])


def values(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each size of values: `size`, puts a second, MB/s with its interval, and the `share`
    of a third of the disk that this is."""
    numbers = Numbers(frame)
    sizes = frame[(frame["part"] == "sizes") & frame["shape"].str.startswith("value-")]
    rows = []
    for shape in dict.fromkeys(sizes["shape"]):
        size = int(shape.removeprefix("value-"))
        rate = summary(numbers.of("bytes_s", shape, part="sizes") / 1e6)
        rows.append(
            {
                "size": size,
                "throughput": summary(numbers.of("throughput", shape, part="sizes"))["value"],
                "mb_s": rate["value"],
                "low": rate["low"],
                "high": rate["high"],
                "share": summary(_large(size)(numbers))["value"],
            }
        )
    return pd.DataFrame(rows)
