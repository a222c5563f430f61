"""What the machine can do, measured in each repetition: group commits, round trips, large
writes."""

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from loggos.bench.context import Context

CHUNK_SIZE = 1 << 20
# Written before the file is synced once.
CHUNKS_A_SYNC = 16
WRITERS = 3
TIMEOUT_S = 120


def run(context: Context) -> None:
    """All repetitions."""
    for repetition in range(context.parameters.repeats):
        context.console.heading(f"the machine, {repetition + 1} of {context.parameters.repeats}")
        with context.attempt("limits", "the machine"):
            measure(context, repetition)


def measure(context: Context, repetition: int) -> None:
    """One repetition."""
    each_s = min(context.parameters.duration_s / 4, 1)
    directory = context.place.root / "disk"
    directory.mkdir(parents=True, exist_ok=True)
    commands = {
        "disk": ["disk", "--dir", directory, "--duration", f"{each_s}s", "--json"],
        "network": ["network", "--duration", f"{each_s}s", "--json"],
    }
    found: dict[str, float] = {}
    for name, arguments in commands.items():
        out = context.children.run([context.place.binary, "bench", *arguments], TIMEOUT_S)
        found |= PARSERS[name](json.loads(out))
    size = context.parameters.stream_bytes
    for writers in (1, WRITERS):
        rate = write_bandwidth(directory, writers, size // writers)
        found[f"write_{writers}_bytes_s"] = rate
    context.measures.add("limits", "machine", "", repetition, **found)
    context.console.line(
        f"commit {found['commit_us']:.0f} us, round trip {found['round_trip_us']:.0f} us, "
        f"disk {found['write_1_bytes_s'] / 1e6:,.0f} MB/s"
    )


def parse_disk(report: dict) -> dict[str, float]:
    """Of `loggos bench disk --json`: one commit of 256 bytes by one node, and by three at once."""
    commits = {(row["writers"], row["bytes"]): row for row in report["commits"]}
    return {
        "commit_us": commits[1, 256]["p50_us"],
        "commits_s": commits[1, 256]["per_s"],
        "commit_of_3_us": commits[3, 256]["p50_us"],
        "commits_of_3_s": commits[3, 256]["per_s"],
        "read_bytes_s": report["read_bytes_per_s"],
    }


def parse_network(report: dict) -> dict[str, float]:
    """Of `loggos bench network --json`: a round trip of 256 bytes."""
    trips = {row["bytes"]: row for row in report["round_trips"]}
    return {
        "round_trip_us": trips[256]["p50_us"],
        "stream_bytes_s": report["stream_bytes_per_s"],
    }


PARSERS: dict[str, Callable[[dict], dict[str, float]]] = {
    "disk": parse_disk,
    "network": parse_network,
}


def write_bandwidth(directory: Path, writers: int, size: int) -> float:
    """Bytes a second that so many writers at once make durable, together: each a new file of this
    size from end to end, synced now and then."""
    paths = [directory / f"stream-{at}" for at in range(writers)]
    errors: list[OSError] = []
    chunk = os.urandom(CHUNK_SIZE)

    def write(path: Path) -> None:
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                for at in range(max(size // CHUNK_SIZE, 1)):
                    os.write(file, chunk)
                    if at % CHUNKS_A_SYNC == CHUNKS_A_SYNC - 1:
                        os.fdatasync(file)
                os.fdatasync(file)
            finally:
                os.close(file)
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(path,)) for path in paths]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - begun
    for path in paths:
        path.unlink(missing_ok=True)
    if errors:
        raise errors[0]
    return writers * max(size // CHUNK_SIZE, 1) * CHUNK_SIZE / seconds
