"""Quorum sizes: what is read from the clusters' folders, and who may fail."""

import json

import pandas as pd
import synthetic

from loggos import analyse


def cluster(run, nodes, q1, q2, slower_ms, repeats):
    """A folder with a report for each (p50 in us, throughput)."""
    folder = run / f"{nodes}-nodes-q2-{q2}-slower-{slower_ms}"
    folder.mkdir(parents=True)
    about = {"nodes": nodes, "phase1": q1, "phase2": q2, "slower_ms": slower_ms}
    (folder / "cluster.json").write_text(json.dumps(about))
    for number, (p50_us, throughput) in enumerate(repeats, 1):
        for name in ("latency", "throughput"):
            report = {
                "reads": {"unknown": 0},
                "writes": {"unknown": 0, "latency_us": {"p50": p50_us, "p99": 2 * p50_us}},
                "throughput": throughput,
            }
            (folder / f"bench-{name}-{number}-c1.json").write_text(json.dumps(report))


def test_clusters_are_compared(tmp_path):
    run = synthetic.write_run(tmp_path / "quorums" / "20260101-000000", per_second=10)
    experiment = json.loads((run / "experiment.json").read_text())
    (run / "experiment.json").write_text(json.dumps(experiment | {"kind": "quorums"}))
    cluster(run, 7, 4, 4, 2, [(6000, 10.0), (8000, 30.0), (7000, 20.0)])
    cluster(run, 5, 5, 1, 0, [(500, 100.0)])
    cluster(run, 5, 3, 3, 0, [(600, 90.0)])
    assert analyse.main([str(run)]) == 0
    table = pd.read_csv(run / "summary.csv")
    assert table[["nodes", "q1", "q2"]].to_numpy().tolist() == [[5, 3, 3], [5, 5, 1], [7, 4, 4]]
    assert table["spare_leading"].tolist() == [2, 4, 3]
    assert table["spare_electing"].tolist() == [2, 0, 3]
    last = table.iloc[2]
    assert (last["p50_ms"], last["p50_ms_low"], last["p50_ms_high"]) == (7.0, 6.0, 8.0)
    assert (last["p99_ms"], last["achieved"], last["repeats"]) == (14.0, 20.0, 3)
    assert (run / "figures" / "quorums.png").stat().st_size > 1000
