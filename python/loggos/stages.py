"""Where a request's time goes: client, leader's queue, sync, quorum, apply and reply.

Joins what the client recorded of an operation with what the nodes recorded of the same command
and its slot. Commands whose records a killed node took with it can't be joined and are left out;
`coverage` says how many there are.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from loggos import stats
from loggos.runs import Run
from loggos.trace import Kind, of_kind

# In the order in which a request passes them; the durations of one request add up to its latency.
STAGES = {
    "request": "client and network, to the node",
    "queue": "at the node, until proposed",
    "sync": "until durable at the leader",
    "quorum": "until a quorum has it",
    "apply": "apply and reply",
    "response": "network and client, back",
}


# Requests are joined by the seconds in which they started, so that this takes little memory.
WINDOW_NS = 10_000_000_000
# The leader's own disk may be done later than all others, and the client's reply.
LATER_NS = 1_000_000_000
NEEDED = (
    Kind.REQUEST_RECEIVED,
    Kind.REQUEST_REPLIED,
    Kind.PROPOSED,
    Kind.SYNCED,
    Kind.CHOSEN,
)


def of_run(run: Run, window_ns: int = WINDOW_NS) -> pd.DataFrame:
    """`requests` of a whole run, window by window: what becomes of a request is recorded from its
    start until soon after its end. What a leader had recorded in an earlier lead is not known in
    there, so around an election a few more requests can be followed."""
    events, operations = run.events_of(*NEEDED), run.operations
    times = events["time_ns"].to_numpy()
    starts = operations["start_ns"].to_numpy()
    if len(starts) == 0:
        return requests(events, operations)
    frames = []
    for begin_ns in range(int(starts.min()), int(starts.max()) + 1, window_ns):
        mine = operations[(begin_ns <= starts) & (starts < begin_ns + window_ns)]
        if len(mine):
            first = np.searchsorted(times, begin_ns)
            last = np.searchsorted(times, mine["end_ns"].max() + LATER_NS, side="right")
            frames.append(requests(events.iloc[first:last], mine))
    return pd.concat(frames, ignore_index=True)


def requests(events: pd.DataFrame, operations: pd.DataFrame) -> pd.DataFrame:
    """One row for each command that can be followed all the way, durations in nanoseconds.

    Columns: `start_ns`, `latency_ns`, `slot`, `node` (who replied), `leader` (who proposed), the
    stages, and `sync_own`: the leader's own sync from the proposal on, whether or not the quorum
    waited for it (with three nodes, two followers can be faster).
    """
    rows = stats.succeeded(operations)
    rows = rows[rows["sequence"] != 0][
        ["start_ns", "end_ns", "latency_ns", "session", "sequence", "node"]
    ]
    rows = rows.merge(
        _of_command(events, Kind.REQUEST_RECEIVED, "received_ns", "first"), how="inner"
    )
    rows = rows.merge(_of_command(events, Kind.REQUEST_REPLIED, "replied_ns", "first"), how="inner")
    rows = rows.merge(_proposals(events), on="slot", how="inner")
    durable = _reached(events, Kind.SYNCED, rows)
    chosen = _reached(events, Kind.CHOSEN, rows)
    rows["sync_own"] = durable - rows["proposed_ns"]
    # A quorum without the leader can be faster than its own disk; then nothing waited for that.
    waited = np.minimum(durable, chosen)
    rows["request"] = rows["received_ns"] - rows["start_ns"]
    rows["queue"] = rows["proposed_ns"] - rows["received_ns"]
    rows["sync"] = waited - rows["proposed_ns"]
    rows["quorum"] = chosen - waited
    rows["apply"] = rows["replied_ns"] - chosen
    rows["response"] = rows["end_ns"] - rows["replied_ns"]
    # A command that was proposed twice, or relayed while leaders changed, does not follow the one
    # order that these stages have. It shows as a negative duration.
    ordered = (rows[list(STAGES)] >= 0).all(axis=1)
    columns = ["start_ns", "latency_ns", "slot", "node", "leader", *STAGES, "sync_own"]
    return rows.loc[ordered, columns].sort_values("start_ns", ignore_index=True)


def coverage(requests: pd.DataFrame, operations: pd.DataFrame) -> float:
    """Which share of the successful commands `requests` could follow."""
    commands = stats.succeeded(operations)
    commands = commands[commands["sequence"] != 0]
    return len(requests) / len(commands) if len(commands) else np.nan


def summary(requests: pd.DataFrame) -> pd.DataFrame:
    """Mean and percentiles of each stage in microseconds, and the stage's share of the mean."""
    frame = _spread(requests, (50, 90, 99))
    frame.insert(1, "mean_us", [values.mean() for _, values in _durations(requests)])
    frame["share"] = frame["mean_us"] / frame["mean_us"].iloc[-1]
    return frame


def quantiles(requests: pd.DataFrame) -> pd.DataFrame:
    """How the durations of each stage, and of the whole (`total`), are spread: a row each, columns
    `stage`, and in microseconds `p5_us`, `p50_us`, `p95_us` and `p99_us`."""
    return _spread(requests, (5, 50, 95, 99))


def _durations(requests: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    """The microseconds of each stage, and of the whole (`total`)."""
    yield from ((stage, requests[stage] / 1e3) for stage in STAGES)
    yield "total", requests["latency_ns"] / 1e3


def _spread(requests: pd.DataFrame, which: tuple[int, ...]) -> pd.DataFrame:
    """Percentiles of each stage, NaN where there are no requests."""
    rows = []
    for stage, values in _durations(requests):
        found = np.percentile(values, which) if len(values) else [np.nan] * len(which)
        rows.append({"stage": stage, **{f"p{p}_us": v for p, v in zip(which, found, strict=True)}})
    return pd.DataFrame(rows)


def slowest(requests: pd.DataFrame, share: float) -> pd.DataFrame:
    """The requests that took longest, so great a share of all; one at least, if there are any."""
    return requests.nlargest(max(1, int(share * len(requests))), "latency_ns")


def _of_command(events: pd.DataFrame, kind: Kind, name: str, keep: str) -> pd.DataFrame:
    """The time of `kind` for each command at each node; a command may come twice after a retry."""
    rows = of_kind(events, kind)
    columns = {"a": "session", "b": "sequence", "writer": "node", "time_ns": name}
    if kind == Kind.REQUEST_REPLIED:
        columns["c"] = "slot"
    rows = rows[list(columns)].rename(columns=columns)
    return rows.drop_duplicates(["session", "sequence", "node"], keep=keep)


def _proposals(events: pd.DataFrame) -> pd.DataFrame:
    """Who proposed each slot first, and when."""
    rows = of_kind(events, Kind.PROPOSED)[["a", "writer", "time_ns"]]
    rows = rows.rename(columns={"a": "slot", "writer": "leader", "time_ns": "proposed_ns"})
    return rows.drop_duplicates("slot", keep="first")


def _reached(events: pd.DataFrame, kind: Kind, rows: pd.DataFrame) -> pd.Series:
    """When each row's leader first recorded a bound (`a`) above the row's slot; NaN if never."""
    times = pd.Series(np.nan, index=rows.index)
    for leader, own in of_kind(events, kind).groupby("writer"):
        mask = rows["leader"] == leader
        bounds = np.maximum.accumulate(own["a"].to_numpy())
        found = np.searchsorted(bounds, rows.loc[mask, "slot"].to_numpy(), side="right")
        when = np.append(own["time_ns"].to_numpy().astype(float), np.nan)
        times[mask] = when[np.minimum(found, len(bounds))]
    return times
