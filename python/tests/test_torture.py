"""What the torture decides and computes by itself, without nodes; `make torture` is the rest."""

import json
import random
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import nodes
import pytest

from loggos.client import Change

sys.path.append(str(Path(__file__).resolve().parents[2] / "mininet"))

import torture_claims
import torture_damage
import torture_plan
import torture_report


def test_a_seed_is_a_plan():
    """Else a failure could not be played again."""
    one, again = torture_plan.draw(7, 60), torture_plan.draw(7, 60)
    assert one == again
    assert one.faults != torture_plan.draw(8, 60).faults


@pytest.mark.parametrize("seed", range(20))
def test_plans_hold_every_fault_and_leave_time_at_the_end(seed):
    """A kind that is never drawn is never tested, and a late fault would disturb the check."""
    plan = torture_plan.draw(seed, 60)
    assert {fault.kind for fault in plan.faults} == set(torture_plan.KINDS)
    assert max(fault.at_s for fault in plan.faults) < 60 - torture_plan.QUIET_S
    for fault in plan.faults:
        assert fault.node is None or 1 <= fault.node <= plan.nodes
        assert 1 <= fault.other < plan.nodes


def test_cuts_are_of_the_right_direction():
    """One-way faults cut in one direction: `(a, b)` is what a sends to b."""

    def pairs(kind):
        fault = torture_plan.Fault(1, kind, 0.0, 1.0, 2, 2, 0)
        return sorted(torture_plan.cut_pairs(fault, 2, 3))

    assert pairs("deaf") == [(1, 2), (3, 2)]
    assert pairs("mute") == [(2, 1), (2, 3)]
    assert pairs("one-way") == [(2, 3)]
    assert pairs("cut") == [(2, 3), (3, 2)]
    assert pairs("isolate") == [(1, 2), (2, 1), (2, 3), (3, 2)]


def test_a_gap_is_explained_only_while_no_majority_was_there():
    """The time that counts is the longest inside the gap with a majority, without a break."""
    majority = [(0.0, True), (10.0, False), (11.0, True), (11.2, False), (13.0, True)]
    assert torture_report.well_for((10.0, 13.1), majority) == pytest.approx(0.2)
    assert torture_report.well_for((9.5, 10.5), majority) == pytest.approx(0.5)
    assert torture_report.well_for((13.0, 20.0), majority) == pytest.approx(7.0)
    assert torture_report.well_for((11.3, 12.0), majority) == 0


def test_replies_are_read_from_client_traces(tmp_path):
    """A wrong offset would find no gaps, or gaps everywhere."""
    path = tmp_path / "incr.trace"
    records = [
        (1_000_000_000, 40, 1, 0),
        (3_500_000_000, 40, 1, 0x102),
        (9_000_000_000, 40, 0, 0x300),
    ]
    packed = b"".join(struct.pack("<QHHIQQQ", *record, 0, 0, 0) for record in records)
    path.write_bytes(bytes(64) + packed + b"cut short")
    times, outcomes = torture_report.replies([path], 500_000_000)
    assert times == [0.5, 3.0]
    assert outcomes == {0: 1, 1: 1, 3: 1}
    assert torture_report.gaps(times) == [(0.5, 3.0)]


def test_damage_stays_where_later_records_prove_it(tmp_path):
    """In the second half it might be what nobody can tell from a log that ends there."""
    wal = tmp_path / "data" / "wal"
    wal.mkdir(parents=True)
    log = bytes(1 + at % 255 for at in range(300_000))

    def write():
        for number, part in enumerate((log[:100_000], log[100_000:200_000], log[200_000:]), 1):
            (wal / f"{number:016}.seg").write_bytes(part + bytes(50_000))

    seen = set()
    for seed in range(60):
        write()
        found = torture_damage.damage(tmp_path / "data", random.Random(seed))
        seen.add(found.words.split(" of ")[0].split(" is ")[-1])
        now = [path.read_bytes() if path.exists() else b"" for path in sorted(wal.glob("*.seg"))]
        assert sorted(wal.glob("*.seg"))[-1].name == "0000000000000003.seg"
        if found.path.exists():
            together = b"".join(part[:100_000] for part in now)
            changed = [at for at in range(len(log)) if together[at] != log[at]]
            assert 0 < len(changed) <= 8 * 512
            assert max(changed) < 150_000 + 8 * 512
        else:
            assert found.path.name == "0000000000000002.seg"
    assert seen == {"a bit", "512 bytes", "4096 bytes", "112 bytes", "gone"}
    (wal / "0000000000000001.seg").write_bytes(log[:1000])
    for number in (2, 3):
        (wal / f"{number:016}.seg").unlink(missing_ok=True)
    assert torture_damage.damage(tmp_path / "data", random.Random(1)) is None


def test_claims_tell_what_is_wrong():
    """Lost, done twice, or done though it was refused; what nobody knows may be either way."""
    claims = torture_claims.Claims()
    for name, is_there in {1: True, 2: True, 3: True, 4: False, 5: None, 6: None}.items():
        claims.note(name, is_there)
    assert claims.bounds() == (3, 5)
    assert claims.judge(Counter([1, 2, 3, 5])) == []
    assert claims.judge(Counter([2, 3])) == ["lost: 1, 1"]
    assert claims.judge(Counter([1, 2, 2, 3, 5, 5])) == ["there again: 2, 2, 5"]
    assert claims.judge(Counter([1, 2, 3, 4, 7])) == ["there, but never happened: 2, 4, 7"]


def test_tokens_must_grow():
    """In the table, and for locks of which one was there before the other was asked for."""
    assert torture_claims.out_of_order([(1, 0), (1, 1), (3, 0)]) == []
    assert torture_claims.out_of_order([(1, 0), (3, 0), (1, 1)]) != []
    assert torture_claims.out_of_order([(1, 0), (1, 0)]) != []
    # The second and third overlap, so that either may be the first of them.
    assert torture_claims.tokens_back([(0, 1, 1), (2, 5, 3), (3, 4, 2), (6, 7, 4)]) == []
    assert torture_claims.tokens_back([(0, 1, 2), (2, 3, 2)]) == [
        "token that does not grow: 1, 2 behind 2"
    ]


def test_a_watch_must_miss_and_repeat_nothing():
    def wrong(*told):
        watched = torture_claims.Watched(b"k")
        for slot, value in told:
            if value is None:
                watched.begin_anew()
            else:
                watched.take(Change(slot, b"k", b"%d" % value))
        return len(watched.wrong)

    assert wrong((1, 1), (2, 2), (2, 1), (3, 2)) == 0
    assert wrong((1, 1), (3, 3)) == 1
    assert wrong((1, 1), (1, 1)) == 1
    assert wrong((2, 1), (1, 2)) == 1
    assert wrong((1, 1), (0, None), (9, 7), (10, 8)) == 0


def test_the_loads_hold_on_nodes_that_stay_well(tmp_path):
    """All of them, against a cluster to which nothing is done."""
    with nodes.cluster(tmp_path, 1) as system:
        out = tmp_path / "out.json"
        script = Path(torture_claims.__file__).with_name("torture_loads.py")
        command = [sys.executable, str(script), "--nodes", system.addresses(), "--seconds", "3"]
        subprocess.run([*command, "--seed", "1", "--out", str(out)], check=True, timeout=60)
        found = json.loads(out.read_text())
    assert found["wrong"] == []
    assert set(found["lines"]) == {"rows", "moves", "locks", "watch"}
    assert "0 failed, 0 unknown" in found["lines"]["rows"]
