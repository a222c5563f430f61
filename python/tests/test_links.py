"""The experiments about links: what is read from their folders, on data whose numbers are known."""

import json

import pandas as pd
import pytest
import redrawn
import synthetic

from loggos import analyse, calibration, flap, loss, runs, stretches, timeouts, wan
from loggos.trace import Kind

MS = 1_000_000
SECOND = 1000 * MS
ORIGIN = synthetic.ORIGIN_NS
SHAPE = {"delay_ms": 5.0, "jitter_ms": 0.0, "loss_percent": 0.0, "reorder_percent": 0.0}


def begin(tmp_path, kind, **changes):
    """A run's folder of this kind; the traces in it are others."""
    path = synthetic.write_run(tmp_path / kind / "20260101-000000", per_second=10)
    for trace in (path / "traces").iterdir():
        trace.unlink()
    experiment = json.loads((path / "experiment.json").read_text())
    experiment |= {"kind": kind, "name": kind, **changes}
    (path / "experiment.json").write_text(json.dumps(experiment))
    return path


def note(path, **line):
    with open(path, "a") as file:
        file.write(json.dumps(line) + "\n")


def analysed(path, name):
    """The table of a whole run, whose figure must be there."""
    assert analyse.main([str(path)]) == 0
    assert (path / "figures" / f"{name}.png").stat().st_size > 1000
    assert (path / "figures" / f"{name}.svg").stat().st_size > 1000
    return pd.read_csv(path / "summary.csv")


def leaders(folder, *seconds):
    """Node traces in which nodes 1 and 2 begin to lead in turn."""
    nodes = {1: [], 2: []}
    for number, at in enumerate(seconds):
        node = 1 + number % 2
        time_ns = ORIGIN + round(at * SECOND)
        nodes[node].append(synthetic.record(time_ns, Kind.ADOPTED, node, a=number + 1))
        # The other one hears of it a little later: no lead of its own.
        follows = synthetic.record(time_ns + MS, Kind.LEADER_CHANGED, node, a=number + 1)
        nodes[3 - node].append(follows)
    for node, records in nodes.items():
        synthetic.write_trace(folder / "traces" / f"n{node}.trace", node, records)


def client(folder, node, ends_ms, latency_ms=1):
    """A client of one node, whose operations ended then."""
    records = [
        synthetic.record(
            ORIGIN + at * MS, Kind.CLIENT_OPERATION, node, aux=2, a=node, b=number,
            c=ORIGIN + (at - latency_ms) * MS,
        )
        for number, at in enumerate(ends_ms, 1)
    ]  # fmt: skip
    synthetic.write_trace(folder / "traces" / f"bench-n{node}.trace", 0, records)


def test_a_share_of_windows_is_that_with_a_reply():
    ends = [0, 50 * MS, 150 * MS, 199 * MS, 350 * MS]
    assert stretches.served_percent(ends, 0, 400 * MS) == 75
    # What is left of a window at the end counts neither way.
    assert stretches.served_percent(ends, 0, 250 * MS) == 100
    assert stretches.within(ends, 50 * MS, 199 * MS) == 2


def test_leads_are_counted_once(tmp_path):
    leaders(tmp_path, 0, 1, 1.5)
    assert ((stretches.leads(tmp_path) - ORIGIN) / SECOND).tolist() == [0, 1, 1.5]


# calibration


@pytest.fixture
def calibrated(tmp_path):
    """One shape that delays by what it says, and one that loses two of ten instead of none."""
    path = begin(
        tmp_path, "calibration", interval_us=1000, count=10, stream_s=1, congestion_control="cubic",
        repeats=2,
    )  # fmt: skip
    (path / "probes").mkdir()
    header = "number,sent_ns,received_ns\n"
    for repeat in (1, 2):
        right = [(n, n * MS, n * MS + 5 * MS + 100_000 * repeat) for n in range(10)]
        reordered = [row for row in right if row[0] not in (3, 8)]
        # The fifth is there before all others.
        reordered.insert(0, reordered.pop(4))
        for number, (rows, shape) in enumerate(
            [(right, SHAPE), (reordered, SHAPE | {"loss_percent": 1e-6})]
        ):
            name = f"packets-{number}-{repeat}.csv"
            text = "".join(f"{n},{sent},{came}\n" for n, sent, came in rows)
            (path / "probes" / name).write_text(header + text)
            about = {"kind": "packets", "repeat": repeat, "file": name, "sent": 10}
            note(path / "cells.jsonl", **about, **shape)
        about = {"kind": "stream", "repeat": repeat, "bytes": 125_000_000, "ns": repeat * SECOND}
        for stream in (SHAPE, SHAPE | {"loss_percent": 1.0}):
            note(path / "cells.jsonl", **about, **stream)
    experiment = json.loads((path / "experiment.json").read_text())
    # There is no cluster.
    del experiment["workload"]
    (path / "experiment.json").write_text(json.dumps(experiment))
    return path


def test_what_became_of_packets_is_measured(calibrated):
    rows = calibration.packets(runs.load(calibrated))
    assert rows["lost"].tolist() == [0, 2, 0, 2]
    assert rows["overtook"].tolist() == [0, 1, 0, 1]
    assert rows["median"].tolist() == pytest.approx([5.1, 5.1, 5.2, 5.2])


def test_the_quartiles_of_even_jitter_are_as_far_apart_as_it(calibrated):
    header = "number,sent_ns,received_ns\n"
    came = [f"{n},{n * MS},{n * MS + 18 * MS + n * 4_000}\n" for n in range(1001)]
    (calibrated / "probes" / "packets-0-1.csv").write_text(header + "".join(came))
    rows = calibration.packets(runs.load(calibrated))
    assert calibration.summary(rows[:1])["spread_ms"][0] == pytest.approx(2)
    assert rows["median"][0] == pytest.approx(20)


def test_shapes_that_are_not_as_asked_for_are_told(calibrated):
    table = analysed(calibrated, "calibration")
    assert table["as_asked"].tolist()[:2] == [True, False]
    assert table["measured_ms"][0] == pytest.approx(5.15)
    assert table["lost_percent"][1] == 20
    # 1,000 and 500 Mbit/s.
    assert table["mbit_s"][2] == 750
    assert "1 of 2 shapes are not as they were" in (calibrated / "summary.md").read_text()


def test_loss_is_judged_by_what_chance_explains():
    assert calibration.likely(110, 10_000, 1)
    assert not calibration.likely(200, 10_000, 1)
    assert not calibration.likely(0, 10_000, 1)
    assert not calibration.likely(1, 10_000, 0)


# wan

FAR = {
    "regions": ["West", "East", "South"],
    "round_trips_ms": [[0.2, 70, 120], [70, 0.2, 90], [120, 90, 0.2]],
    "leaders": ["East"],
    "ways": ["leader", "lease", "quorum"],
    "rate": 50,
}


def test_what_the_network_alone_takes():
    floor = wan.floor_ms
    # To the leader and back, and from there to the nearest of the others.
    assert floor(FAR, "East", "write", "West") == pytest.approx(0.2 + 70 + 70)
    assert floor(FAR, "East", "write", "East") == pytest.approx(0.2 + 70)
    assert floor(FAR, "East", "read by leader", "South") == pytest.approx(0.2 + 90 + 70)
    assert floor(FAR, "East", "read by lease", "South") == pytest.approx(0.2 + 90)
    assert floor(FAR, "East", "read by quorum", "South") == pytest.approx(0.2 + 90)


def test_latency_is_told_by_region_and_operation(tmp_path):
    path = begin(tmp_path, "wan", **FAR)
    for way in FAR["ways"]:
        folder = path / f"3-nodes-East-{way}"
        (folder / "traces").mkdir(parents=True)
        (folder / "cluster.json").write_text(json.dumps({"leader": "East", "way": way}))
        for repeat in (1, 2):
            for region in FAR["regions"]:
                label = f"bench-{repeat}-{region}"
                report = {"start_monotonic_ns": ORIGIN, "check": None}
                report |= {kind: {"unknown": 0} for kind in ("reads", "writes")}
                (folder / f"{label}.json").write_text(json.dumps(report))
                records = []
                for at, sequence, latency_ms in (
                    # The first is part of the warm-up.
                    (-1, 1, 900), (10, 2, 100 + repeat), (20, 3, 100 + repeat), (30, 0, 40),
                ):  # fmt: skip
                    end = ORIGIN + at * MS
                    what = {"a": 1, "b": sequence, "c": end - latency_ms * MS}
                    records.append(synthetic.record(end, Kind.CLIENT_OPERATION, 1, **what))
                synthetic.write_trace(folder / "traces" / f"{label}.trace", 0, records)
    table = analysed(path, "latency")
    assert table["operation"].unique().tolist() == [
        "read by leader", "read by lease", "read by quorum", "write",
    ]  # fmt: skip
    assert table["region"].tolist()[:3] == FAR["regions"]
    writes = table[table["operation"] == "write"].iloc[0]
    # Two in each of six loads.
    assert (writes["operations"], writes["n"], writes["p50_ms"]) == (12, 6, 101.5)
    assert table["p50_ms"][0] == 40
    points = pd.read_csv(path / "latency-points.csv")
    assert points["operation"].unique().tolist()[:2] == ["write", "read by leader"]
    assert points["region"].unique().tolist() == FAR["regions"]
    curves = points.set_index(["leader", "operation", "region", "share"])["ms"].sort_index()
    west = curves["East", "write", "West"]
    assert (west[0], west[1], west[0.5]) == (101, 102, 101.5)
    assert (curves["East", "read by lease", "South"] == 40).all()
    redrawn.same(path, "wan", tmp_path / "results", "latency")


# loss


def test_elections_latency_and_throughput_of_a_shape(tmp_path):
    path = begin(tmp_path, "loss", rate=500, clients=32)
    lossy = SHAPE | {"loss_percent": 5.0}
    at_s = 0
    for repeat in (1, 2):
        for cell, shape in enumerate([SHAPE, lossy]):
            for load in ("open", "closed"):
                label = f"bench-{load}-{cell:02d}-{repeat}-c1"
                latency = {"p50": 10_000 * (cell + 1), "p99": 20_000 * repeat}
                report = {
                    "writes": {"unknown": 0, "latency_us": latency},
                    "reads": {"unknown": 0},
                    "throughput": 1000.0 * (cell + repeat),
                }
                (path / f"{label}.json").write_text(json.dumps(report))
                times = {"begin_ns": ORIGIN + at_s * SECOND}
                times["end_ns"] = times["begin_ns"] + 10 * SECOND
                about = {"cell": cell, "repeat": repeat, "load": load, "labels": [label]}
                note(path / "cells.jsonl", **about, **shape, **times)
                at_s += 10
    # Before all, two at the lossy shape's steady rate, one in its closed loop.
    leaders(path, -1, 22, 28, 33)
    table = analysed(path, "loss")
    assert table["loss_percent"].tolist() == [0, 5]
    assert table["elections"].tolist() == [0, 3]
    # Two in ten seconds, and none the second time.
    assert table["elections_per_minute"].tolist() == [0, 6]
    assert table["p50_ms"].tolist() == [10, 20]
    assert table["p99_ms"].tolist() == [30, 30]
    assert table["closed_per_s"].tolist() == [1500, 2500]
    assert "3 leaders were elected" in (path / "summary.md").read_text()
    assert len(loss.loads(runs.load(path))) == 4


# timeouts


@pytest.fixture
def timed(tmp_path):
    """Two timeouts: one too short, with an election a second and nobody to kill, and one that is
    right, whose leader dies 2 s after the beginning and is missed for 300 ms."""
    path = begin(tmp_path, "timeouts")
    for factor, timeout_ms in ((1, 10), (10, 100)):
        folder = path / f"3-nodes-rtt-10-timeout-{timeout_ms}"
        about = {
            "round_trip_ms": 10.0, "factor": factor, "timeout_ms": timeout_ms, "repeat": 1,
        }  # fmt: skip
        times = {"begin_ns": ORIGIN, "end_ns": ORIGIN + 2 * SECOND}
        short = factor == 1
        leaders(folder, -1, *((0.5, 1.5) if short else ()), 2.3)
        note(folder / "cells.jsonl", **about, kind="calm", **times)
        death = {"leader": None if short else 1}
        if not short:
            death |= {"death_ns": ORIGIN + 2 * SECOND, "end_ns": ORIGIN + 3 * SECOND}
        note(folder / "cells.jsonl", **about, kind="death", **death)
        # The dead one's client hears nothing at all; that of another one all but 300 ms.
        client(folder, 1, range(0, 2000, 10))
        client(folder, 2, [at for at in range(0, 3000, 10) if not 2000 < at < 2300])
    return path


def test_false_elections_and_downtime(timed):
    table = analysed(timed, "timeouts")
    assert table["factor"].tolist() == [1, 10]
    assert table["false_per_minute"].tolist() == [60, 0]
    assert table["served_percent"].tolist() == [100, 100]
    assert table["deaths"].tolist() == [0, 1]
    assert table["not_back"].tolist() == [0, 0]
    assert pd.isna(table["down_ms"][0])
    assert table["down_ms"][1] == 300
    assert table["down_timeouts"][1] == 3
    assert "without a false election is 10 round trips" in (timed / "summary.md").read_text()


def test_a_cluster_that_nobody_serves_again_is_told(timed):
    folder = timed / "3-nodes-rtt-10-timeout-100"
    client(folder, 2, range(0, 2000, 10))
    table = timeouts.summary(timeouts.times(runs.load(timed)))
    assert table["not_back"].tolist() == [0, 1]


# flap


def test_who_is_served_while_a_link_flaps(tmp_path):
    path = begin(tmp_path, "flap", rate=100)
    for link, period_s, begin_s in (
        ("none", 0, 0), ("leader-follower", 0.4, 1), ("follower-follower", 0.4, 2),
    ):  # fmt: skip
        times = {"begin_ns": ORIGIN + begin_s * SECOND, "end_ns": ORIGIN + (begin_s + 1) * SECOND}
        note(path / "cells.jsonl", link=link, period_s=period_s, repeat=1, changes=5, **times)
    leaders(path, -1, 1.5)
    client(path, 1, range(0, 3000, 10))
    # Not served in the first and third fifth of the second; and late throughout the third.
    held = [at for at in range(0, 2000, 10) if not (1000 <= at < 1200 or 1400 <= at < 1600)]
    client(path, 2, held)
    table = analysed(path, "flap").set_index("link")
    assert table["served_percent"].tolist() == [100, 100, 100]
    assert table["worst_percent"].tolist() == [100, 60, 0]
    assert table["elections_per_minute"].tolist() == [0, 60, 0]


def test_an_answer_that_comes_too_late_is_none(tmp_path):
    path = begin(tmp_path, "flap", rate=100)
    times = {"begin_ns": ORIGIN, "end_ns": ORIGIN + 2 * SECOND}
    note(path / "cells.jsonl", link="none", period_s=0, repeat=1, changes=0, **times)
    leaders(path, -1)
    client(path, 1, range(1000, 2000, 10))
    client(path, 2, range(1000, 2000, 10), latency_ms=flap.BOUND_MS + 1)
    assert flap.points(runs.load(path))["in_time_percent"].tolist() == [50]
