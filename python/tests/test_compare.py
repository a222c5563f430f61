"""From the folders of cells to tables and figures, with numbers that are known."""

import json

import numpy as np
import pandas as pd
import pytest
import redrawn
import synthetic

from loggos import analyse, cdf, cells, cost, failover, runs, sizes, stats
from loggos.plots import SYSTEMS
from loggos.trace import Kind

MS = 1_000_000


def new_run(path, kind, systems, **parameters):
    """A comparison's folder without cells."""
    path.mkdir(parents=True)
    experiment = {
        "name": kind, "kind": kind, "title": "Several systems", "systems": systems, "nodes": 3,
        "clients": 4, "in_flight": 2, "workload": "put", "value_size": 256, "sync": True,
        "election_timeout_ms": 100, "op_timeout_ms": 500, "warmup_s": 1,
    }  # fmt: skip
    about = {name: {"version": "1.0", "about": f"what {name} includes"} for name in systems}
    (path / "experiment.json").write_text(json.dumps(experiment | parameters))
    (path / "environment.json").write_text(json.dumps({"systems": about, "machine": {}}))
    (path / "outcome.json").write_text(json.dumps({"ok": True}))
    return path


def new_cell(run, system, repeat, **changes):
    """The folder of a cell that ended well."""
    name = "-".join([f"{repeat:02d}", system, *(f"{key}-{it}" for key, it in changes.items())])
    folder = run / "cells" / name
    folder.mkdir(parents=True)
    about = {"system": system, "repeat": repeat, "changes": changes}
    (folder / "cell.json").write_text(json.dumps(about))
    return folder


def new_report(folder, load, achieved, p50_us=1000, rate=None, tells=True):
    """A load generator's report; one that tells no percentiles has a mean only."""
    latency = {"mean": 1.5 * p50_us} | ({"p50": p50_us, "p99": 3 * p50_us} if tells else {})
    report = {
        "parameters": {"rate": rate},
        "throughput": achieved,
        "reads": {"ok": 0, "unknown": 0},
        "writes": {"ok": 1, "unknown": 0, "latency_us": latency},
    }
    (folder / f"bench-{load}-c1.json").write_text(json.dumps(report))


def test_every_system_looks_different():
    looks = list(SYSTEMS.values())
    for what in ("label", "color", "marker"):
        assert len({getattr(look, what) for look in looks}) == len(looks), what


def test_cells_without_a_marker_are_left_out(tmp_path):
    run = new_run(tmp_path / "run", "sizes", ["loggos", "etcd"])
    with pytest.raises(ValueError, match="no cell has ended well"):
        cells.load(runs.load(run))
    new_cell(run, "etcd", 1)
    (new_cell(run, "loggos", 1) / "cell.json").unlink()
    new_cell(run, "loggos", 2, nodes=5)
    found = cells.load(runs.load(run))
    assert [(cell.system, cell.run.experiment["nodes"]) for cell in found] == [
        ("loggos", 5), ("etcd", 3),
    ]  # fmt: skip


def test_steady(tmp_path, capsys):
    run = new_run(tmp_path / "run", "steady", ["loggos", "libpaxos"], rates=[1, 2], keeps_up=0.95)
    for repeat in (1, 2):
        folder = new_cell(run, "loggos", repeat)
        for rate, achieved in ((1000, 1000), (2000, 1990), (3000, 2500)):
            new_report(folder, f"open-{rate:06d}", achieved, rate=rate)
        folder = new_cell(run, "libpaxos", repeat)
        for under_way in (1, 16):
            new_report(folder, f"closed-{under_way:06d}", 500 * under_way, tells=False)
    assert analyse.main([str(run)]) == 0
    out = capsys.readouterr().out
    assert "| loggos | 1,990 | 0.00 | 1.00 | 3.00 | 1.50 | 2 | knee |" in out
    assert "| libpaxos | 8,000 | 0.00 | – | – | 1.50 | 2 | most achieved |" in out
    assert "what loggos includes" in out
    for figure in ("latency-throughput", "achieved"):
        assert (run / "figures" / f"{figure}.png").stat().st_size > 1000


def test_sizes(tmp_path):
    run = new_run(tmp_path / "run", "sizes", ["loggos", "libpaxos"], sizes=[3, 5])
    for repeat, more in ((1, 0), (2, 20)):
        for nodes in (5, 3):
            for system in ("loggos", "libpaxos"):
                folder = new_cell(run, system, repeat, nodes=nodes)
                new_report(folder, "throughput", 1000 / nodes + more)
                new_report(folder, "latency", 50, 100 * nodes, tells=system == "loggos")
    assert analyse.main([str(run)]) == 0
    table = pd.read_csv(run / "summary.csv")
    assert table["system"].tolist() == ["loggos"] * 2 + ["libpaxos"] * 2
    assert table["nodes"].tolist() == [3, 5, 3, 5]
    assert table["achieved"][1] == 210
    assert table["achieved_half"][1] == pytest.approx(12.706 * 10, rel=1e-3)
    assert (
        table["p50"].tolist()[:2] == [0.3, 0.5] and table["p50"].isna().tolist()[2:] == [True] * 2
    )
    rows = cells.reports(runs.load(run))
    assert len(sizes.summary(rows)) == 4


def operations(folder, load, latencies_ms, gap=None):
    """A trace of operations that were due every millisecond; with `gap`, replies between these
    two milliseconds came at the end of it."""
    records = []
    for at, latency in enumerate(latencies_ms):
        start = synthetic.ORIGIN_NS + at * MS
        end = start + int(latency * MS)
        if gap and gap[0] * MS <= end - synthetic.ORIGIN_NS < gap[1] * MS:
            end = synthetic.ORIGIN_NS + int(gap[1] * MS)
        records.append(synthetic.record(end, Kind.CLIENT_OPERATION, 1, aux=1, a=1, b=at, c=start))
    synthetic.write_trace(folder / "traces" / f"{load}-c1.trace", 0, records)


def test_cdf_leaves_the_warm_up_out(tmp_path):
    run = new_run(tmp_path / "run", "cdf", ["loggos"], share=0.5, rates=[1000])
    for repeat in (1, 2):
        folder = new_cell(run, "loggos", repeat)
        new_report(folder, "closed", 2000)
        for load in ("share", "rate-001000"):
            new_report(folder, load, 1000, rate=1000)
            # A second of warm-up, then 1 to 1,000 ms, each once.
            operations(folder, f"bench-{load}", [5000] * 1000 + list(range(1, 1001)))
    assert analyse.main([str(run)]) == 0
    table = pd.read_csv(run / "summary.csv").set_index("load")
    assert table.loc["share", "p50"] == pytest.approx(500.5)
    assert table.loc["rate-001000", "p99"] == pytest.approx(990.01)
    assert table.loc["share", "p99_half"] == pytest.approx(0)
    assert set(cdf.distributions(runs.load(run))["load"]) == {"share", "rate-001000"}
    assert (run / "figures" / "cdf.png").stat().st_size > 1000
    points = pd.read_csv(run / "cdf-points.csv").set_index(["load", "system", "share"])["ms"]
    assert points["rate-001000", "loggos", 0.5] == pytest.approx(500.5)
    assert points["share", "loggos", 0.999] == pytest.approx(999, abs=0.1)
    assert points["share", "loggos", 1] == 1000
    assert len(points) == 2 * len(stats.SHARES)
    redrawn.same(run, "cdf", tmp_path / "results", "cdf")


def test_failover(tmp_path):
    schedule = [
        {"action": "Kill", "role": "leader", "seconds": 2},
        {"action": "Restart", "role": "killed", "seconds": 3},
        {"action": "Kill", "role": "follower", "seconds": 4},
        {"action": "Restart", "role": "killed", "seconds": 4.5},
    ]
    assert failover.events(schedule) == [
        "leader crashes", "leader is back", "follower crashes", "follower is back",
    ]  # fmt: skip
    run = new_run(tmp_path / "run", "failover", ["loggos", "etcd"], schedule=schedule, rate=1000)
    for repeat in (1, 2):
        for system, away_ms in (("loggos", 100), ("etcd", 200 + repeat)):
            folder = new_cell(run, system, repeat)
            new_report(folder, "bench", 1000, rate=1000)
            operations(folder, "bench", [1] * 6000, gap=(2000, 2000 + away_ms))
            lines = [
                {"number": at, "planned_s": it["seconds"], "action": it["action"].lower(),
                 "time_ns": synthetic.ORIGIN_NS + int(it["seconds"] * 1e9), "label": "n1",
                 "done_ns": 0, "nodes": [1]}
                for at, it in enumerate(schedule, 1)
            ]  # fmt: skip
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (folder / "faults.jsonl").write_text(text)
    assert analyse.main([str(run)]) == 0
    table = pd.read_csv(run / "summary.csv").set_index(["event", "system"])
    assert table.loc[("leader crashes", "loggos"), "downtime_ms"] == pytest.approx(100)
    assert table.loc[("leader crashes", "etcd"), "downtime_ms"] == pytest.approx(201.5)
    half = 12.706 * np.std([201, 202], ddof=1) / np.sqrt(2)
    assert table.loc[("leader crashes", "etcd"), "downtime_ms_half"] == pytest.approx(
        half, rel=1e-3
    )
    assert table.loc[("follower is back", "etcd"), "downtime_ms"] == pytest.approx(1)
    # Of each system its first repetition alone.
    windows = pd.read_csv(run / "timeline-windows.csv")
    assert windows["system"].unique().tolist() == ["loggos", "etcd"]
    assert not windows.duplicated(["system", "at_s"]).any()
    chosen = failover.first_repetitions(cells.load(runs.load(run)))
    assert [(cell.system, cell.repeat) for cell in chosen] == [("loggos", 1), ("etcd", 1)]
    rates = windows.round(2).set_index(["system", "at_s"])["per_second"]
    assert (rates["etcd", 1.95], rates["etcd", 2.15]) == (1000, 0)
    assert rates["loggos", 2.15] > 1000
    marks = pd.read_csv(run / "timeline-marks.csv")
    dead = marks[(marks["system"] == "etcd") & (marks["what"] == "kill")]
    assert dead[["start_s", "end_s"]].to_numpy().tolist() == [[2, 3], [4, 4.5]]
    assert (marks["what"] == "event").sum() == 2 * len(schedule)
    redrawn.same(run, "failover", tmp_path / "results", "timeline", "downtime")


def count(label, which, seconds, factor):
    """A line of what was counted; everything grows by `factor` a second."""
    grown = int(seconds * factor)
    return {
        "label": label, "count": which, "wall_s": 100.0 + seconds, "monotonic_s": 7.0 + seconds,
        "processor_s": {"1": 0.1 * seconds, "2": 0.3 * seconds},
        "memory_kib": {"1": {"rss": 2048, "anon": 1}, "2": {"rss": 4096, "anon": 1}},
        "sent": {"n1": {"bytes": 10 * grown, "packets": grown},
                 "n2": {"bytes": 10 * grown, "packets": grown},
                 "c1": {"bytes": 1, "packets": 99}},
        "disk": {"writes": 1, "sectors": 1, "flushes": grown},
    }  # fmt: skip


SYNCS = """\
7 100.500000 fdatasync(5) = 0
7 101.500000 fdatasync(5 <unfinished ...>
9 101.600000 fsync(6) = 0
7 101.700000 <... fdatasync resumed>) = 0
9 102.900000 fdatasync(6) = 0
9 103.500000 fdatasync(6) = 0
9 103.600000 +++ exited with 0 +++
"""


def test_cost_counts_between_its_two_counts(tmp_path):
    run = new_run(tmp_path / "run", "cost", ["loggos"], rate=1000)
    for repeat in (1, 2):
        for counts_syncs in (False, True):
            folder = new_cell(run, "loggos", repeat, count_syncs=counts_syncs)
            idle = {"1": {"rss": 1024, "anon": 1}, "2": {"rss": 512, "anon": 1}}
            (folder / "idle.json").write_text(json.dumps(idle))
            lines = []
            for load in ("light", "closed"):
                new_report(folder, load, 500, rate=500 if load == "light" else None)
                lines += [count(f"bench-{load}", "first", 1, 1000)]
                lines += [count(f"bench-{load}", "last", 3, 1000)]
            (folder / "usage.jsonl").write_text("".join(json.dumps(it) + "\n" for it in lines))
            if counts_syncs:
                (folder / "syncs-n1.txt").write_text(SYNCS)
    rows = pd.DataFrame([row for cell in cells.load(runs.load(run)) for row in cost.used(cell)])
    table = cost.summary(rows).set_index("load")
    closed = table.loc["closed"]
    # Two seconds of 500 operations; three of the syncs lie between the counts.
    assert closed["syncs"] == pytest.approx(3 / 1000)
    assert closed["cpu_us"] == pytest.approx(0.8e6 / 1000)
    assert closed["cpu_most_us"] == pytest.approx(0.6e6 / 1000)
    assert closed["packets"] == pytest.approx(4)
    assert closed["bytes"] == pytest.approx(40)
    assert (closed["rss_mib"], closed["idle_mib"]) == (4, 1)
    assert analyse.main([str(run)]) == 0
    assert (run / "figures" / "cost.png").stat().st_size > 1000
