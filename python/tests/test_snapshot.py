"""Latency with and without snapshots, the disk and restarts, from lines that are known."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import redrawn
import synthetic

from loggos import analyse, snapshot
from loggos.trace import Kind, Outcome

MS = 1_000_000
S = 1000 * MS


def operations(*rows):
    """Operations from (start in ms, latency in ms)."""
    starts = np.array([start * MS for start, _ in rows], np.int64)
    delays = np.array([delay * MS for _, delay in rows], np.int64)
    return pd.DataFrame(
        {
            "start_ns": starts,
            "end_ns": starts + delays,
            "latency_ns": delays,
            "outcome": [Outcome.OK] * len(rows),
        }
    )


def line(kind, begin_ms, end_ms, **more):
    return {"kind": kind, "begin_ns": begin_ms * MS, "end_ns": end_ms * MS, **more}


def test_spans_that_overlap_are_one():
    lines = [line("snapshot", *times) for times in [(50, 60), (0, 20), (10, 30), (60, 70)]]
    found = snapshot.spans(pd.DataFrame(lines), "snapshot")
    assert (found // MS).to_numpy().tolist() == [[0, 30], [50, 70]]


def test_an_operation_that_touches_a_snapshot_counts_with_it():
    # Begun before and ended within; begun within; around all of it; before; behind; between.
    rows = operations((8, 4), (15, 1), (5, 100), (1, 8), (71, 5), (35, 10))
    spans = pd.DataFrame({"begin_ns": [10 * MS, 50 * MS], "end_ns": [30 * MS, 70 * MS]})
    assert snapshot.within(rows, spans).tolist() == [True, True, True, False, False, False]
    nothing = pd.DataFrame({"begin_ns": [], "end_ns": []}, dtype="int64")
    assert not snapshot.within(rows, nothing).any()


def test_latency_is_told_apart():
    lines = pd.DataFrame([line("calm", 0, 100), line("snapshot", 100, 200, size=1)])
    # The fourth is slow because of the snapshot into which it reaches.
    rows = operations((10, 1), (20, 2), (50, 3), (90, 40), (150, 5), (300, 99))
    table = snapshot.latency(rows, lines).set_index("when")
    assert table["operations"].tolist() == [3, 2]
    assert (table.loc["calm", "p50_ms"], table.loc["calm", "p100_ms"]) == (2, 3)
    assert table.loc["snapshots", "p100_ms"] == 40
    assert table.loc["snapshots", "seconds"] == pytest.approx(0.1)


def test_disk_is_told_against_writes():
    lines = [
        {"kind": "disk", "time_ns": at * S, "n1": (at + 1) * 1024**2, "n2": 1024**2}
        for at in range(5)
    ]
    lines += [
        {"kind": "writes", "begin_ns": 0, "end_ns": 2 * S, "total": 1000},
        {"kind": "writes", "begin_ns": 2 * S, "end_ns": 4 * S, "total": 5000},
    ]
    used = snapshot.disk(pd.DataFrame(lines))
    assert used["writes"].tolist() == [0, 500, 1000, 3000, 5000]
    assert used["n1"].tolist() == [1, 2, 3, 4, 5]


def test_what_was_written_before_is_not_shown():
    taking = pd.DataFrame({"begin_ns": [100 * S, 140 * S], "end_ns": [101 * S, 141 * S]})
    run = SimpleNamespace(load_ns=(20 * S, 150 * S), operations=operations((80_200, 7)))
    marks = snapshot.marked(run, taking)
    assert marks["what"].tolist() == ["load", "snapshot", "snapshot"]
    assert marks[["start_s", "end_s"]].to_numpy().tolist() == [[0, 80], [30, 31], [70, 71]]
    windows = snapshot.windows(run, taking).set_index("at_s")
    assert (windows.index[0], windows.index[-1]) == (0.25, 79.75)
    assert windows.loc[10.25].tolist() == [7, 7, 7]
    assert windows.drop(index=10.25).isna().all(axis=None)
    # Without any snapshot all of the load is.
    assert snapshot.shown_ns(run, taking[:0]) == (20 * S, 150 * S)


def test_a_whole_run(tmp_path, capsys):
    run = synthetic.write_run(tmp_path / "snapshot" / "20260101-000000", per_second=10)
    experiment = json.loads((run / "experiment.json").read_text())
    (run / "experiment.json").write_text(json.dumps(experiment | {"kind": "snapshot"}))
    origin = synthetic.ORIGIN_NS
    records = [
        synthetic.record(start + delay, Kind.CLIENT_OPERATION, 1, a=1, b=1, c=start)
        for start, delay in (
            (origin + at * MS, (6 if at >= 1000 else 4) * MS) for at in range(0, 2000, 10)
        )
    ]
    synthetic.write_trace(run / "traces" / "c1.trace", 0, records)
    lines = [
        {"kind": "calm", "begin_ns": origin, "end_ns": origin + S - MS},
        {"kind": "snapshot", "node": 1, "begin_ns": origin + S, "end_ns": origin + 2 * S,
         "size": 3 * 1024**2, "slot": 9},
        {"kind": "disk", "time_ns": origin, "n1": 5 * 1024**2},
        {"kind": "writes", "begin_ns": origin, "end_ns": origin + S, "total": 7},
        {"kind": "restart", "label": "follower", "nodes": [2], "serving_s": 0.5, "led_s": 0.6,
         "said": ["replaying the log: slot 1 of 2"]},
    ]  # fmt: skip
    (run / "snapshot.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    assert analyse.main([str(run)]) == 0
    out = capsys.readouterr().out
    assert "p99.9 while snapshots are taken: 1.50 times that without" in out
    assert "1 snapshots of 3 MiB" in out
    assert "replaying the log: slot 1 of 2" in out
    windows = pd.read_csv(run / "latency-windows.csv")
    assert windows["p50_ms"].tolist() == [4, 4, 6]
    assert pd.read_csv(run / "disk.csv")["n1"].tolist() == [5]
    redrawn.same(run, "snapshot", tmp_path / "results", "latency", "disk")
