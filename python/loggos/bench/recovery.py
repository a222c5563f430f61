"""The part `recovery`: how fast a long log is read at a restart, and how fast a node that was away
catches up, each beside what the disk can do.

Snapshots are far away throughout, so that the log is all there is.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path

from loggos import stats, trace
from loggos.bench.context import Context
from loggos.bench.limits import write_bandwidth
from loggos.bench.processes import Failed, wait_for
from loggos.bench.systems import Load, Loggos
from loggos.bench.systems.base import parse_report

FILL = Load("fill", clients=64, value_size=4096, keys=2_000)
FILL_STEP_S = 2
FOREGROUND = Load("foreground", clients=64, rate=2_000)
# Of the foreground alone, before the node comes back.
BEFORE_S = 3
# While it takes less than this, ends with the catching-up.
FOREGROUND_S = 60
SETTINGS = {"snapshot": {"log_mib": 1_048_576}}
RESTART_S_MAX = 300
SERVING_POLL_S = 0.002
# Each question is a process of its own, which costs the nodes time.
STATUS_POLL_S = 0.02
READ_SIZE = 1 << 20


def run(context: Context) -> None:
    """All repetitions."""
    for repetition in range(context.parameters.repeats):
        size = context.parameters.log_bytes / 1e6
        context.console.heading(
            f"recovery from {size:,.0f} MB of log, {repetition + 1} of {context.parameters.repeats}"
        )
        with context.attempt("recovery", "restart"):
            _restart(context, repetition)
        with context.attempt("recovery", "catch-up"):
            _catch_up(context, repetition)


def _restart(context: Context, repetition: int) -> None:
    with Loggos(context.place, settings=SETTINGS) as cluster:
        node = cluster.nodes[0]
        data = node.home / "data"
        while log_size(data) < context.parameters.log_bytes:
            _fill(cluster)
        cluster.wait_level()
        for each in cluster.nodes:
            cluster.stop_node(each)
        paths = files(data)
        size = sum(path.stat().st_size for path in paths)
        # Twice: what is below this machine's disk, as a host's cache, is then the same for both.
        read_cold(paths)
        read_s = read_cold(paths)
        evict(paths)
        served = node.times_serving()
        begun = time.monotonic()
        cluster.start_node(node)
        _wait_serving(cluster, node, served)
        restart_s = time.monotonic() - begun
    context.measures.add(
        "recovery", "loggos", "restart", repetition, seconds=restart_s, read_s=read_s, bytes=size
    )
    context.console.line(
        f"{size / 1e6:,.0f} MB read in {read_s:.2f} s, served after {restart_s:.2f} s"
    )


def _catch_up(context: Context, repetition: int) -> None:
    with Loggos(context.place, settings=SETTINGS) as cluster:
        leader = cluster.wait_level()
        away = next(node for node in cluster.nodes if node is not leader)
        cluster.stop_node(away)
        missed = 0
        while missed < context.parameters.missed_bytes:
            missed += _fill(cluster)
        path = cluster.dir / "foreground.trace"
        foreground = cluster.bench(FOREGROUND, FOREGROUND_S, 0.5, "--trace", path)
        time.sleep(BEFORE_S)
        target = cluster.status()[leader.id]["applied"]
        served = away.times_serving()
        cluster.start_node(away)
        _wait_serving(cluster, away, served)
        begun_ns = time.monotonic_ns()
        wait_for(
            "the node did not catch up",
            lambda: cluster.status().get(away.id, {}).get("applied", 0) >= target,
            FOREGROUND_S, STATUS_POLL_S,
        )  # fmt: skip
        ended_ns = time.monotonic_ns()
        # The load generator ends early, with its report, when it is asked to.
        foreground.terminate()
        parse_report(context.children.end(foreground, 30))
        before_ms, during_ms = foreground_p99(path, begun_ns, ended_ns)
    seconds = (ended_ns - begun_ns) / 1e9
    disk = write_bandwidth(context.place.root, 1, context.parameters.stream_bytes)
    context.measures.add(
        "recovery", "loggos", "catch-up", repetition,
        seconds=seconds, bytes=missed, bytes_s=missed / seconds, disk_bytes_s=disk,
        p99_before_ms=before_ms, p99_during_ms=during_ms,
    )  # fmt: skip
    context.console.line(
        f"caught up with {missed / 1e6:,.0f} MB in {seconds:.2f} s: {missed / seconds / 1e6:,.0f} "
        f"MB/s; the disk {disk / 1e6:,.0f}"
    )
    context.console.line(f"p99 of others {before_ms:.2f} ms before, {during_ms:.2f} ms meanwhile")


def foreground_p99(path: Path, begun_ns: int, ended_ns: int) -> tuple[float, float]:
    """The 99th percentile in milliseconds of what was to start in the seconds before, and
    meanwhile."""
    operations = stats.succeeded(trace.operations(trace.read_all([path])))
    starts = operations["start_ns"]
    first = starts.min() + 500_000_000
    spans = [(first, begun_ns), (begun_ns, ended_ns)]
    chosen = [operations[(low <= starts) & (starts < high)]["latency_ns"] for low, high in spans]
    if any(len(each) == 0 for each in chosen):
        raise Failed("it was over before the foreground load did anything")
    before, during = (stats.percentiles(each, (99,))["p99"] for each in chosen)
    return float(before), float(during)


def _fill(cluster: Loggos) -> int:
    """Makes the log longer; returns by how many bytes of values."""
    report = cluster.report(cluster.bench(FILL, FILL_STEP_S, 0), FILL_STEP_S)
    return report["writes"]["ok"] * FILL.value_size


def _wait_serving(cluster: Loggos, node, served: int) -> None:
    def serves() -> bool:
        cluster.check_alive()
        return node.times_serving() > served

    wait_for(f"node {node.id} does not serve", serves, RESTART_S_MAX, SERVING_POLL_S)


def files(directory: Path) -> list[Path]:
    """All files below a directory."""
    return sorted(path for path in directory.rglob("*") if path.is_file())


def log_size(data: Path) -> int:
    """Bytes that the log in a data directory takes on the disk, about."""
    return sum(path.stat().st_blocks * 512 for path in files(data))


def evict(paths: Iterable[Path]) -> None:
    """Makes the kernel forget what it holds of these files, so that the next to read asks the
    disk."""
    for path in paths:
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)


def read_cold(paths: list[Path]) -> float:
    """Seconds that reading these files from the disk takes, one after the other."""
    evict(paths)
    buffer = bytearray(READ_SIZE)
    begun = time.monotonic()
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.monotonic() - begun
