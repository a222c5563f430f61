"""Reads trace files (`src/trace.rs` holds the format and is the contract).

Files become one DataFrame without a loop over records, because a run has millions of them; and
with no more memory than the records that are asked for, because it may have a hundred million.
Times stay integers in nanoseconds of CLOCK_MONOTONIC, so that no rounding creeps in before
differences are taken.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
import pandas as pd

MAGIC = b"LOGGTRAC"
VERSION = 1
# Records that are read at a time: 2.5 MiB, which a processor's cache holds.
CHUNK = 1 << 16

HEADER = np.dtype(
    [
        ("magic", "S8"),
        ("version", "<u4"),
        ("record_size", "<u4"),
        ("source", "<u2"),
        ("node", "<u2"),
        ("pid", "<u4"),
        ("wall_ns", "<u8"),
        ("monotonic_ns", "<u8"),
        ("error_ns", "<u8"),
        ("zero", "V16"),
    ]
)

# The file's integers have no sign. Here they do, so that differences of times may be negative; an
# identifier above 2^63 reads as a negative number and still equals itself.
RECORD = np.dtype(
    [
        ("time_ns", "<i8"),
        ("kind", "<u2"),
        ("node", "<u2"),
        ("aux", "<u4"),
        ("a", "<i8"),
        ("b", "<i8"),
        ("c", "<i8"),
    ]
)


class Kind(IntEnum):
    """What a record tells; the meaning of its fields is in `src/trace.rs`."""

    NODE_STARTED = 1
    NODE_STOPPED = 2
    LEADER_CHANGED = 3
    SCOUT_STARTED = 4
    ADOPTED = 5
    PREEMPTED = 6
    PEER_UP = 7
    PEER_DOWN = 8
    REQUEST_RECEIVED = 20
    PROPOSED = 21
    SYNCED = 22
    CHOSEN = 23
    APPLIED = 24
    REQUEST_REPLIED = 25
    JUMPED = 26
    CLIENT_OPERATION = 40
    FAULT = 60


class Outcome(IntEnum):
    """How a client's operation ended."""

    OK = 0
    REFUSED = 1
    FAILED = 2
    UNKNOWN = 3


OPERATIONS = {0: "read", 1: "put", 2: "incr", 3: "create"}


class TraceError(ValueError):
    """The file is not a trace that this reader knows."""


@dataclass(frozen=True)
class Header:
    """Who wrote a trace file, and how its clock relates to the wall clock."""

    source: str
    node: int
    pid: int
    wall_ns: int
    monotonic_ns: int
    clock_error_ns: int

    @property
    def wall_offset_ns(self) -> int:
        """What to add to a record's time to get nanoseconds since 1970."""
        return self.wall_ns - self.monotonic_ns


def read_header(path: str | Path) -> Header:
    """Reads and checks the first 64 bytes; raises `TraceError` if they are not a trace's."""
    with open(path, "rb") as file:
        head = file.read(HEADER.itemsize)
    if head[:8] != MAGIC:
        raise TraceError(f"{path}: not a trace (begins with {head[:8]!r}, expected {MAGIC!r})")
    if len(head) < HEADER.itemsize:
        raise TraceError(f"{path}: header cut short ({len(head)} of {HEADER.itemsize} bytes)")
    fields = np.frombuffer(head, HEADER)[0]
    if fields["version"] != VERSION:
        raise TraceError(f"{path}: trace format {fields['version']}, this reader knows {VERSION}")
    if fields["record_size"] != RECORD.itemsize:
        raise TraceError(
            f"{path}: records of {fields['record_size']} bytes, this reader knows {RECORD.itemsize}"
        )
    sources = {1: "node", 2: "client"}
    if int(fields["source"]) not in sources:
        raise TraceError(f"{path}: unknown source {fields['source']}")
    return Header(
        source=sources[int(fields["source"])],
        node=int(fields["node"]),
        pid=int(fields["pid"]),
        wall_ns=int(fields["wall_ns"]),
        monotonic_ns=int(fields["monotonic_ns"]),
        clock_error_ns=int(fields["error_ns"]),
    )


def count(path: str | Path) -> int:
    """How many whole records a file has; raises `TraceError` if it is no trace."""
    read_header(path)
    # A process that was killed may leave half a record behind; it tells nothing.
    return (Path(path).stat().st_size - HEADER.itemsize) // RECORD.itemsize


def chunks(path: str | Path) -> Iterator[np.ndarray]:
    """All whole records of a file, in the file's order, so many at a time that they fit anywhere.

    Read and not mapped: mapped pages would count as ours until somebody else needs the memory.
    """
    left = count(path)
    with open(path, "rb") as file:
        file.seek(HEADER.itemsize)
        while left > 0:
            records = np.fromfile(file, RECORD, min(left, CHUNK))
            left -= len(records)
            yield records


def read(path: str | Path, *kinds: Kind) -> pd.DataFrame:
    """The whole records of one file, in the file's order; of these kinds only, if any are named.

    Columns as in the format, plus `writer`: the node that wrote the file, 0 for a client (the
    column `node` may name another one). `frame.attrs["header"]` is the file's `Header`.
    """
    frame = pd.DataFrame(_columns([Path(path)], kinds), copy=False)
    frame.attrs["header"] = read_header(path)
    return frame


def read_all(paths: list[Path], *kinds: Kind) -> pd.DataFrame:
    """The records of several files of one machine (one CLOCK_MONOTONIC), ordered by time; of these
    kinds only, if any are named."""
    columns = _columns(sorted(paths), kinds)
    times = columns["time_ns"]
    if (times[1:] < times[:-1]).any():
        # Stable: records of one file with the same time keep their order.
        order = np.argsort(times, kind="stable")
        # One column after the other: all at once would be the whole history a second time.
        for name in columns:
            columns[name] = columns[name][order]
    return pd.DataFrame(columns, copy=False)


def _columns(paths: list[Path], kinds: tuple[Kind, ...]) -> dict[str, np.ndarray]:
    """The files one behind the other, each column in an array of its own that is as long as it must
    be from the beginning: to grow it would take its memory twice."""
    # By kind, because looking up is many times faster than comparing with each.
    wanted = np.zeros(1 << 16, bool)
    wanted[[int(kind) for kind in kinds]] = True
    if kinds:
        totals = [sum(int(wanted[it["kind"]].sum()) for it in chunks(path)) for path in paths]
    else:
        totals = [count(path) for path in paths]
    columns = {name: np.empty(sum(totals), RECORD[name]) for name in RECORD.names}
    columns["writer"] = np.repeat(
        np.array([read_header(path).node for path in paths], np.uint16), totals
    )
    at = 0
    for path in paths:
        for part in chunks(path):
            chosen = part[wanted[part["kind"]]] if kinds else part
            for name in RECORD.names:
                columns[name][at : at + len(chosen)] = chosen[name]
            at += len(chosen)
    return columns


def of_kind(events: pd.DataFrame, *kinds: Kind) -> pd.DataFrame:
    """The events of these kinds."""
    return events[events["kind"].isin([int(kind) for kind in kinds])]


def operations(events: pd.DataFrame) -> pd.DataFrame:
    """The clients' operations, a row each, ordered by the time at which they ended.

    Latency counts from the intended start: an operation that had to wait because the system did
    not answer the one before has waited all the same.
    """
    rows = of_kind(events, Kind.CLIENT_OPERATION)
    aux = rows["aux"].to_numpy()
    found = pd.DataFrame(
        {
            "start_ns": rows["c"].to_numpy(),
            "end_ns": rows["time_ns"].to_numpy(),
            "latency_ns": rows["time_ns"].to_numpy() - rows["c"].to_numpy(),
            "node": rows["node"].to_numpy(),
            "session": rows["a"].to_numpy(),
            "sequence": rows["b"].to_numpy(),
            "operation": aux & 0xFF,
            "outcome": (aux >> 8) & 0xFF,
        }
    )
    # Of a whole history they are in order already.
    if found["end_ns"].is_monotonic_increasing:
        return found
    return found.sort_values("end_ns", kind="stable", ignore_index=True)
