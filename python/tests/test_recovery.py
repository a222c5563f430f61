"""How long nodes took to come back, from lines with known times; and that damage hits the log."""

import json
import random
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from test_compare import new_cell, new_report, new_run

from loggos import analyse

sys.path.append(str(Path(__file__).resolve().parents[2] / "mininet"))

import recovery_plan
import torture_damage
from comparisons import Cell
from systems.known import SYSTEMS


def line(step, serving_s, level_s, **more):
    return {
        "kind": step, "node": 2, "written_mib": 4.0, "away_mib": 4, "disk_mib": 16.0,
        "serving_s": serving_s, "level_s": level_s, "by_snapshot": step == "snapshot", "said": [],
    } | more  # fmt: skip


def test_each_step_is_told_by_what_ends_it(tmp_path, capsys):
    run = new_run(
        tmp_path / "run", "recovery", ["loggos", "etcd"], rate=2000, sizes_mib=[4, 16],
        written_mib=0, state="",
    )  # fmt: skip
    for repeat in (1, 2):
        for state in ("small", "large"):
            for mib in (16, 4):
                for system in ("loggos", "etcd"):
                    folder = new_cell(run, system, repeat, written_mib=mib, state=state)
                    new_report(folder, "001", 2000, rate=2000)
                    lines = [line("restart", 0.01, 0.1 * repeat), line("catch-up", 0.1, mib / 4)]
                    if system == "loggos":
                        lines += [line("snapshot", 0.1, 2), line("repair", 0.1, 3, repaired_s=5)]
                    text = "".join(json.dumps(one) + "\n" for one in lines)
                    (folder / "recovery.jsonl").write_text(text)
    assert analyse.main([str(run)]) == 0
    assert "| loggos | large | 4 | 2 | 5.00 | 0.00 |" in capsys.readouterr().out
    table = pd.read_csv(run / "summary.csv").set_index(["step", "system", "state", "size_mib"])
    restart = table.loc[("restart", "loggos", "small", 4)]
    assert restart["seconds"] == pytest.approx(0.15)
    assert restart["seconds_half"] == pytest.approx(12.706 * 0.05, rel=1e-3)
    assert table.loc[("catch-up", "etcd", "large", 16), "seconds"] == 4
    assert table.loc[("catch-up", "etcd", "large", 16), "by_snapshot"] == 0
    assert table.loc[("snapshot", "loggos", "large", 4), "by_snapshot"] == 2
    assert ("repair", "etcd", "large", 4) not in table.index
    assert (run / "figures" / "recovery.png").stat().st_size > 1000


# What is done


def test_a_large_state_has_a_key_for_each_write():
    experiment = recovery_plan.RECOVERY
    for state, keys in (("small", 1000), ("large", 25_600)):
        cell = Cell("loggos", 1, {"written_mib": 100, "state": state})
        assert experiment.of(cell).keys == keys
    fit = [it.name for it in SYSTEMS.values() if not experiment.unfit(it)]
    assert fit == ["loggos", "etcd", "omnipaxos-durable"]
    alone = replace(experiment, systems=("etcd",), repeats=1)
    assert len({cell.name for cell in alone.cells()}) == 2 * len(experiment.sizes_mib)


def test_damage_in_one_way_only(tmp_path):
    """Of the ways that are asked for, and in what is written, not in the zeros behind it."""
    wal = tmp_path / "wal"
    wal.mkdir()
    used = 600 * 1024
    (wal / "1.seg").write_bytes(b"\1" * used + b"\0" * used)
    for seed in range(20):
        found = torture_damage.damage(tmp_path, random.Random(seed), ways=("sectors",))
        assert found.is_sure
        assert found.words.startswith("4096 bytes of 1.seg")
    assert (wal / "1.seg").read_bytes().find(b"\0") < used // 2
