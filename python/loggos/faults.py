"""What was done to the cluster, what it did about it, and what clients noticed."""

import numpy as np
import pandas as pd

from loggos import stats
from loggos.runs import Run
from loggos.trace import Kind, Outcome, of_kind

# Which event ends which: the shaded spans of a figure.
ENDS = {"kill": "restart", "stop": "restart", "cut": "heal", "pause": "resume"}


def windows(run: Run) -> pd.DataFrame:
    """The time after each event of the schedule until the next one, and the calm before the first.

    Columns: `number` (0 is the calm), `action`, `label`, `start_ns`, `end_ns`.
    """
    load_start, load_end = run.load_ns
    events = run.schedule
    events = events[(load_start <= events["time_ns"]) & (events["time_ns"] < load_end)]
    starts = [load_start, *events["time_ns"].astype("int64")]
    return pd.DataFrame(
        {
            "number": [0, *events["number"].astype("int64")],
            "action": ["none", *events["action"]],
            "label": ["no fault", *events["label"]],
            "start_ns": starts,
            "end_ns": [*starts[1:], load_end],
        }
    )


def spans(run: Run) -> pd.DataFrame:
    """What was wrong from when to when: a kill until its restart, a cut until it was healed.

    Columns: `action`, `label`, `nodes`, `start_ns`, `end_ns` (the load's end if it never ended).
    """
    rows = []
    for event in run.schedule.itertuples():
        if event.action not in ENDS:
            continue
        later = run.schedule[
            (run.schedule["time_ns"] > event.time_ns)
            & (run.schedule["action"] == ENDS[event.action])
            & run.schedule["nodes"].map(lambda nodes, mine=event.nodes: set(mine) <= set(nodes))
        ]
        end = int(later["time_ns"].iloc[0]) if len(later) else run.load_ns[1]
        rows.append((event.action, event.label, event.nodes, int(event.time_ns), end))
    return pd.DataFrame(rows, columns=["action", "label", "nodes", "start_ns", "end_ns"])


def leaders(run: Run) -> pd.DataFrame:
    """Who led when: columns `node`, `round`, `start_ns`, `end_ns`.

    A lead begins at the first sign of its ballot that any trace shows (the leader's own records may
    have died with it) and ends with the next lead, or with the leader's process.
    """
    found = signs(run.events_of(Kind.ADOPTED, Kind.LEADER_CHANGED))
    ends = np.append(found["time_ns"].to_numpy()[1:], run.load_ns[1])
    frame = pd.DataFrame(
        {
            "node": found["node"].to_numpy(),
            "round": found["a"].to_numpy(),
            "start_ns": found["time_ns"].to_numpy(),
            "end_ns": np.maximum(ends, found["time_ns"].to_numpy()),
        }
    )
    for span in spans(run).itertuples():
        if span.action in ("kill", "stop"):
            dead = frame["node"].isin(span.nodes) & frame["start_ns"].lt(span.start_ns)
            frame.loc[dead, "end_ns"] = frame.loc[dead, "end_ns"].clip(upper=span.start_ns)
    return frame


def signs(events: pd.DataFrame) -> pd.DataFrame:
    """The first sign of each lead, in order: columns `time_ns`, `node`, and `a`, its round."""
    adopted = of_kind(events, Kind.ADOPTED)
    followed = of_kind(events, Kind.LEADER_CHANGED)
    found = pd.concat(
        [
            adopted[["time_ns", "a"]].assign(node=adopted["writer"]),
            followed[["time_ns", "a", "node"]],
        ]
    ).sort_values("time_ns", kind="stable")
    found = found[found["node"] != 0]
    # Nodes hear of a ballot at different times; only the first to show a higher one counts. Of two
    # ballots of one round, the one of the node with the higher id is higher.
    ballot = found["a"] * 65536 + found["node"]
    return found[ballot > ballot.cummax().shift(fill_value=-1)]


def elections(run: Run) -> pd.DataFrame:
    """Each lead that was won while there was load: columns `time_ns`, `node`, `round`."""
    start, end = run.load_ns
    rows = leaders(run)
    rows = rows[(start < rows["start_ns"]) & (rows["start_ns"] < end)]
    return rows.rename(columns={"start_ns": "time_ns"})[["time_ns", "node", "round"]]


def summary(run: Run) -> pd.DataFrame:
    """A row for each window: what clients noticed, and whether somebody was elected.

    Columns: `at_s` (since the load began), `fault`, `window_s`, `downtime_ms` (longest time without
    a successful reply), `recovered`, `elected_ms` (until a new leader, NaN if there was none),
    `mean_per_s`, `p50_ms`, `p99_ms`, `max_ms`, `failed`, `unknown`.
    """
    origin = run.load_ns[0]
    won = elections(run)
    rows = []
    for window in windows(run).itertuples():
        gap = stats.longest_gap(run.operations, window.start_ns, window.end_ns)
        started = run.operations["start_ns"].between(
            window.start_ns, window.end_ns, inclusive="left"
        )
        operations = run.operations[started]
        good = stats.succeeded(operations)
        inside = won[won["time_ns"].between(window.start_ns, window.end_ns, inclusive="left")]
        seconds = (window.end_ns - window.start_ns) / 1e9
        tail = stats.percentiles(good["latency_ns"], (50, 99, 100))
        rows.append(
            {
                "at_s": (window.start_ns - origin) / 1e9,
                "fault": window.label,
                "window_s": seconds,
                "downtime_ms": gap.length_ns / 1e6,
                "recovered": gap.recovered,
                "elected_ms": (inside["time_ns"].min() - window.start_ns) / 1e6,
                "mean_per_s": len(good) / seconds,
                "p50_ms": tail["p50"],
                "p99_ms": tail["p99"],
                "max_ms": tail["p100"],
                "failed": int((operations["outcome"] == Outcome.FAILED).sum()),
                "unknown": int((operations["outcome"] == Outcome.UNKNOWN).sum()),
            }
        )
    return pd.DataFrame(rows)


def check(run: Run) -> dict:
    """What the load generators found when they compared what was acknowledged with what is there.

    Sums over the generators: `lost`, `duplicated`, `stale` and `unexpected` (None where none
    checked), and `unknown`, the operations that ended without a definite answer.
    """
    checks = [bench["check"] for bench in run.benches if bench.get("check")]
    keys = ("lost", "duplicated", "stale", "unexpected")
    found = {key: sum(check[key] for check in checks) if checks else None for key in keys}
    classes = [bench[name] for bench in run.benches for name in ("reads", "writes")]
    return {**found, "unknown": sum(one["unknown"] for one in classes)}


def around(run: Run, time_ns: int, before_ns: int, after_ns: int) -> pd.DataFrame:
    """The election's records near a moment: `ms` (since it), `node`, `what`, ordered by time."""
    words = {
        Kind.NODE_STARTED: "started",
        Kind.PEER_DOWN: "peer lost",
        Kind.PEER_UP: "peer back",
        Kind.SCOUT_STARTED: "scout started",
        Kind.ADOPTED: "adopted",
        Kind.PREEMPTED: "preempted",
        Kind.LEADER_CHANGED: "follows",
    }
    rows = run.events_of(*words)
    rows = rows[rows["time_ns"].between(time_ns - before_ns, time_ns + after_ns)]
    what = rows["kind"].map({int(kind): word for kind, word in words.items()})
    named = rows["kind"].isin([Kind.PEER_DOWN, Kind.PEER_UP, Kind.LEADER_CHANGED])
    what = what.where(~named, what + " n" + rows["node"].astype(str))
    return pd.DataFrame(
        {
            "ms": (rows["time_ns"] - time_ns) / 1e6,
            "node": rows["writer"],
            "kind": rows["kind"],
            "what": what,
        }
    ).reset_index(drop=True)
