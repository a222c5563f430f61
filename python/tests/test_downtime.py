"""How long service was away under partial partitions, from cells with times that are known."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import redrawn
import synthetic
from test_compare import new_cell, new_report, new_run

from loggos import analyse
from loggos.trace import Kind

sys.path.append(str(Path(__file__).resolve().parents[2] / "mininet"))

import ablation_plan
import downtime_plan
from comparisons import Cell
from systems.loggos import Setup

MS = 1_000_000
CUT, HEAL = 10_000 * MS, 14_000 * MS


def cut_cell(run, system, repeat, away_ms, timeout_ms=500, **changes):
    """A cell whose clients had no reply for so long after the cut, node 3's for 100 ms more."""
    folder = new_cell(run, system, repeat, **changes)
    for node in (1, 2, 3):
        times = np.arange(CUT - 1000 * MS, HEAL + 1000 * MS, 10 * MS)
        end = CUT + (away_ms + (100 if node == 3 else 0)) * MS
        times = times[(times <= CUT) | (end <= times)]
        records = [
            synthetic.record(int(time), Kind.CLIENT_OPERATION, node, aux=1, a=1, b=1, c=int(time))
            for time in times
        ]
        synthetic.write_trace(folder / "traces" / f"bench-n{node}.trace", 0, records)
        new_report(folder, f"n{node}", 100, rate=100)
    line = {
        "scenario": changes["scenario"], "nodes": 3, "election_timeout_ms": timeout_ms,
        "linked": [1, 2, 3], "once": True, "disturbed": False, "cut_ns": CUT, "heal_ns": HEAL,
    }  # fmt: skip
    # The course before it was disturbed, and counts for nothing.
    lines = [line | {"disturbed": True, "heal_ns": CUT + 1}, line]
    (folder / "cuts.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))


def test_downtime_by_system(tmp_path, capsys):
    kinds = [["quorum-loss", 3], ["chained", 3]]
    run = new_run(
        tmp_path / "run", "downtime", ["loggos", "etcd"], kinds=kinds, watched_timeouts=6,
        duration_s=1, timeouts_ms=[50, 5000],
    )  # fmt: skip
    for repeat in (1, 2):
        cut_cell(run, "loggos", repeat, 990 + 10 * repeat, scenario="quorum-loss")
        cut_cell(run, "etcd", repeat, 6000, scenario="quorum-loss")
        cut_cell(run, "loggos", repeat, 700, scenario="chained")
    assert analyse.main([str(run)]) == 0
    out = capsys.readouterr().out
    assert "In 2 of 6 cuts service was not back" in out
    assert "- election timeout 50, 5,000 ms" in out
    table = pd.read_csv(run / "summary.csv")
    assert table["system"].tolist() == ["loggos", "etcd", "loggos"]
    assert table["scenario"].tolist() == ["quorum-loss", "quorum-loss", "chained"]
    first, second = table.iloc[0], table.iloc[1]
    assert (first["downtime_ms"], first["all_ms"], first["not_back"]) == (1005, 1105, 0)
    assert first["downtime_ms_half"] == pytest.approx(12.706 * 5, rel=1e-3)
    # The first window has the reply at the cut; the next one comes in the eleventh.
    assert first["served_percent"] == pytest.approx(100 * 31 / 40)
    assert (second["downtime_ms"], second["not_back"], second["whole"]) == (4000, 2, True)
    assert (run / "figures" / "downtime.png").stat().st_size > 1000


def test_ablation(tmp_path):
    run = new_run(
        tmp_path / "run", "ablation", ["loggos"], without="nothing", scenario="",
        kinds=[["chained", 3]],
    )  # fmt: skip
    for repeat in (1, 2):
        for without, factor in (("nothing", 1), ("batching", 4)):
            folder = new_cell(run, "loggos", repeat, without=without)
            for under_way in (1, 64, 1024):
                new_report(folder, f"closed-{under_way:06d}", 1000 * under_way / factor)
        for without, away_ms in (("nothing", 900), ("quorum_connected_election", 6000)):
            cut_cell(run, "loggos", repeat, away_ms, scenario="chained", without=without)
    assert analyse.main([str(run)]) == 0
    table = pd.read_csv(run / "summary.csv").set_index(["without", "under_way"])
    assert table["times"].tolist() == [1, 1, 1, 0.25, 0.25, 0.25]
    assert table.loc[("batching", 64), "achieved"] == 16_000
    page = (run / "summary.md").read_text()
    assert "| chained | 3 | 500 | quorum_connected_election | 2 | 2 | 4,000.0 |" in page
    cuts = pd.read_csv(run / "cuts-summary.csv").set_index("without")
    assert cuts["downtime_ms"].tolist() == [900, 4000]
    assert cuts["whole"].tolist() == [False, True]
    redrawn.same(run, "ablation", tmp_path / "results", "ablation")


# What is done


def test_a_cut_lasts_as_long_as_the_experiment_says():
    for name, nodes in downtime_plan.DOWNTIME.kinds:
        for timeout_ms in downtime_plan.DOWNTIME.timeouts_ms:
            changes = {"scenario": name, "nodes": nodes, "election_timeout_ms": timeout_ms}
            cell = Cell("loggos", 1, changes)
            experiment = downtime_plan.DOWNTIME.of(cell)
            (phase,) = downtime_plan.case_of(experiment).phases
            assert phase.timeouts * timeout_ms == pytest.approx(10 * timeout_ms + 3000)
            # A client's request must not be given up before the partition's end, nor be refused
            # by the configuration.
            assert experiment.request_timeout_ms >= 2 * timeout_ms


def test_each_optimisation_is_off_in_a_cell_and_all_that_is_fast_in_one():
    ablation = replace(ablation_plan.ABLATION, systems=("loggos",), repeats=1)
    off = {}
    for cell in ablation.cells():
        experiment = ablation.of(cell)
        off[cell.name] = experiment.setup().without
        assert bool(experiment.rate) == bool(experiment.scenario)
    assert off["01-loggos-without-nothing"] == ()
    assert off["01-loggos-without-pipelining"] == ("pipelining",)
    assert len(off["01-loggos-without-all-four"]) == 4
    name = "01-loggos-scenario-chained-nodes-3-without-quorum_connected_election"
    assert off[name] == ("quorum_connected_election",)


def test_what_is_no_optimisation_cannot_be_switched_off():
    with pytest.raises(ValueError, match="no optimisation 'phase2_skip'; there are: batching"):
        Setup(without=("phase2_skip",))
