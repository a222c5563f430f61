"""Ways of reading: what is read from the clusters' folders, and how long nobody was answered."""

import json

import pandas as pd
import pytest
import redrawn
import synthetic

from loggos import analyse, reads, runs
from loggos.trace import Kind

MS = 1_000_000
DEATH_NS = synthetic.ORIGIN_NS + 1000 * MS


def bench(folder, rate, repeat, p50_us, achieved, processor_s):
    """A report, and what the nodes spent."""
    label = f"bench-{rate:06d}-{repeat}-c1"
    report = {
        "parameters": {"rate": float(rate), "warmup_s": 1.0},
        "measured_s": 3.0,
        "reads": {"unknown": 0, "latency_us": {"p50": p50_us, "p99": 2 * p50_us}},
        "writes": {"unknown": 0},
        "throughput": achieved,
    }
    (folder / f"{label}.json").write_text(json.dumps(report))
    with open(folder / "processors.jsonl", "a") as file:
        file.write(json.dumps({"label": label, "seconds": processor_s}) + "\n")


def cluster(run, way, read_gap_ms):
    """A folder whose clients read and write every 10 ms, but read for so long not, and write for
    200 ms not, from a leader's death on."""
    folder = run / f"3-nodes-{way}"
    (folder / "traces").mkdir(parents=True)
    records = []
    for kind, gap_ms in ((0, read_gap_ms), (1, 200)):
        for at_ms in range(0, 2000, 10):
            end = synthetic.ORIGIN_NS + at_ms * MS
            if not DEATH_NS < end < DEATH_NS + gap_ms * MS:
                what = {"a": kind, "b": kind * (at_ms + 1), "c": end - MS}
                records.append(synthetic.record(end, Kind.CLIENT_OPERATION, 1, **what))
    synthetic.write_trace(folder / "traces" / "bench-deaths-c1.trace", 0, records)
    line = {"node": 1, "of": "process", "calm_ns": DEATH_NS - 500 * MS, "death_ns": DEATH_NS}
    line["end_ns"] = DEATH_NS + 500 * MS
    (folder / "deaths.jsonl").write_text(json.dumps(line) + "\n")
    return folder


@pytest.fixture
def run(tmp_path):
    path = synthetic.write_run(tmp_path / "reads" / "20260101-000000", per_second=10)
    experiment = json.loads((path / "experiment.json").read_text())
    experiment |= {"kind": "reads", "ways": ["leader", "quorum"], "reads": 0.9, "death_rate": 200}
    (path / "experiment.json").write_text(json.dumps(experiment))
    leader = cluster(path, "leader", 150)
    bench(leader, 1000, 1, 400, 1000.0, {"1": 0.4, "2": 0.1})
    bench(leader, 1000, 2, 600, 990.0, {"1": 0.4, "2": 0.1})
    bench(leader, 1000, 3, 500, 1010.0, {"1": 0.4, "2": 0.1})
    quorum = cluster(path, "quorum", 20)
    bench(quorum, 50000, 1, 900, 40000.0, {"1": 1.6, "2": 3.2})
    bench(quorum, 1000, 1, 700, 1000.0, {"1": 0.2, "2": 0.2})
    return runs.load(path)


def test_repeats_become_a_median_and_a_range(run):
    table = reads.points(run)
    assert table["way"].tolist() == ["leader", "quorum", "quorum"]
    assert table["offered"].tolist() == [1000, 1000, 50000]
    first = table.iloc[0]
    assert (first["p50_ms"], first["p50_ms_low"], first["p50_ms_high"]) == (0.5, 0.4, 0.6)
    assert (first["p99_ms"], first["achieved_low"]) == (1.0, 990)
    # 0.5 s for 4,000 operations, 0.4 s of them at node 1; 4.8 s for 160,000.
    assert table["nodes_us"].tolist() == pytest.approx([125, 100, 30])
    assert table["busiest_percent"].tolist() == pytest.approx([80, 50, 200 / 3])


def test_a_gap_is_that_of_reads_or_that_of_writes(run):
    table = reads.gaps(reads.deaths(run)).set_index("way")
    assert table["deaths"].tolist() == [1, 1]
    assert table["calm_read_ms"].tolist() == [10, 10]
    assert table["read_ms"].tolist() == [150, 20]
    assert table["write_ms"].tolist() == [200, 200]


def test_replies_are_counted_from_the_death(run):
    replies = reads.around(run, reads.deaths(run)).set_index(["way", "ms"])["per_second"]
    assert replies["leader", -10] == 100
    # The one that came at the very moment.
    assert replies["leader", 10] == 50
    assert replies["leader", 130] == 0
    assert replies["quorum", 30] == 100


def test_a_whole_run(run, tmp_path, capsys):
    assert analyse.main([str(run.path)]) == 0
    assert "| quorum | process | 1 | 10.0 | 10.0 | 20.0 |" in capsys.readouterr().out
    assert len(pd.read_csv(run.path / "summary.csv")) == 3
    died = pd.read_csv(run.path / "deaths.csv")
    assert died["death_ns"].tolist() == [DEATH_NS] * 2
    assert died["read_ms"].tolist() == [150, 20]
    replies = pd.read_csv(run.path / "deaths-windows.csv")
    counted = reads.around(run, reads.deaths(run))
    pd.testing.assert_frame_equal(replies, counted, check_dtype=False)
    assert (run.path / "figures" / "reads.png").stat().st_size > 1000
    redrawn.same(run.path, "reads", tmp_path / "results", "deaths")
