"""What experiments share that measure one condition after the other, each noted as a line with its
times: reading what belongs to a stretch of time."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from loggos import faults, stats, trace
from loggos.trace import Kind

SIGNS = (Kind.ADOPTED, Kind.LEADER_CHANGED)


def lines(path: Path) -> pd.DataFrame:
    """A row for each line of JSON."""
    return pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()])


def records(paths: Iterable[Path], kinds: tuple[Kind, ...]) -> pd.DataFrame:
    """The records of these kinds in these files; all of such a run would fill the memory."""
    frames = [trace.read(path, *kinds) for path in sorted(paths)]
    for frame in frames:
        frame.attrs = {}
    return pd.concat(frames).sort_values("time_ns", kind="stable", ignore_index=True)


def leads(folder: Path) -> np.ndarray:
    """When leaders began to lead, by the traces of a cluster's nodes, in order."""
    return faults.signs(records(folder.glob("traces/n*.trace"), SIGNS))["time_ns"].to_numpy()


def operations(folder: Path) -> pd.DataFrame:
    """The operations of all clients that talk to one node each; `at`, to which."""
    frames = []
    for path in sorted(folder.glob("traces/bench-n*.trace")):
        node = int(path.stem.removeprefix("bench-n"))
        frames.append(trace.operations(trace.read(path)).assign(at=node))
    return pd.concat(frames).sort_values("end_ns", ignore_index=True)


def within(times: np.ndarray, begin_ns: int, end_ns: int) -> int:
    """How many of these times, which are in order, are in a stretch."""
    return int(np.searchsorted(times, end_ns) - np.searchsorted(times, begin_ns))


def served_percent(ends: np.ndarray, begin_ns: int, end_ns: int) -> float:
    """The share of windows of 100 ms in a stretch in which there was a reply."""
    edges = np.arange(begin_ns, end_ns + 1, stats.WINDOW_NS, dtype=np.int64)
    counts = np.diff(np.searchsorted(ends, edges))
    return 100 * float((counts > 0).mean()) if len(counts) else float("nan")


def means(rows: pd.DataFrame, by: list[str], names: list[str]) -> pd.DataFrame:
    """The mean of each of these columns, and `_ci95`, half the width of its t interval; `n` rows
    for each value of `by`, in the order in which these come first."""
    found = []
    for key, group in rows.groupby(by, sort=False):
        row = dict(zip(by, key, strict=True)) | {"n": len(group)}
        for name in names:
            interval = stats.t_interval(group[name])
            row |= {name: interval["mean"], f"{name}_ci95": interval["half"]}
        found.append(row)
    return pd.DataFrame(found)
