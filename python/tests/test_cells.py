"""Comparisons: which cells there are, that a run goes on where it stopped, and who takes part."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "mininet"))

import cells
import comparisons
import resume
import run as lab_run
from files import write_json
from judge import CheckFailed
from systems.known import SYSTEMS

BOTH = replace(comparisons.SIZES, systems=("loggos", "etcd"), sizes=(3, 5), repeats=2)


class FakeSystem:
    """A system of which only the calls matter."""

    commands = ()

    def settle(self, _timeout_s):
        return {"all": "equal"}

    def stop(self):
        pass


class FakeLab:
    """Deploys nothing; knows what was deployed."""

    def __init__(self, run_dir, experiment):
        self.run_dir, self.experiment = run_dir, experiment
        self.verdicts, self.systems, self.said = [], [], []
        self.environment = {"ping": {}}
        self.deployed = []
        self.progress = SimpleNamespace(clear=lambda: None)
        self.binary = None

    def deploy(self, experiment, folder, _setup, adapter):
        self.deployed.append((adapter.name, experiment.nodes, folder.name))
        for inner in ("status", "traces", "hosts"):
            (folder / inner).mkdir()
        return FakeSystem(), None

    def take_down(self):
        pass

    def say(self, text):
        self.said.append(text)

    def elapsed_s(self):
        return 0.0


def fine(_lab, _cell, _system, _links):
    pass


def test_repetitions_are_outermost():
    """Else a machine that slows down would be to the cost of the systems that come last."""
    names = [cell.name for cell in BOTH.cells()]
    assert names[:4] == [
        "01-loggos-nodes-3", "01-etcd-nodes-3", "01-loggos-nodes-5", "01-etcd-nodes-5",
    ]  # fmt: skip
    assert names[4:] == [name.replace("01-", "02-") for name in names[:4]]
    assert BOTH.of(BOTH.cells()[2]).nodes == 5


def test_each_cell_is_played_in_its_own_folder(tmp_path):
    lab = FakeLab(tmp_path, BOTH)
    cells.play(fine, lab)
    assert lab.deployed[2] == ("loggos", 5, "01-loggos-nodes-5")
    marker = json.loads((tmp_path / "cells" / "02-etcd-nodes-5" / "cell.json").read_text())
    assert (marker["system"], marker["repeat"], marker["changes"]) == ("etcd", 2, {"nodes": 5})
    assert not (tmp_path / "cells" / "02-etcd-nodes-5" / "hosts").exists()


def test_a_run_goes_on_where_it_was_interrupted(tmp_path):
    """What was begun and has no marker is played anew, what has one is not; verdicts are kept."""

    class Interrupt(BaseException):
        pass

    def until_the_third(lab, _cell, _system, _links):
        lab.verdicts.append({"histories": len(lab.deployed)})
        if len(lab.deployed) == 3:
            raise Interrupt

    with pytest.raises(Interrupt):
        cells.play(until_the_third, FakeLab(tmp_path, BOTH))
    (tmp_path / "cells" / "01-loggos-nodes-5" / "left-over").touch()
    lab = FakeLab(tmp_path, BOTH)
    cells.play(fine, lab)
    assert [name for *_, name in lab.deployed] == [cell.name for cell in BOTH.cells()[2:]]
    assert lab.verdicts == [{"histories": 1}, {"histories": 2}]
    assert not (tmp_path / "cells" / "01-loggos-nodes-5" / "left-over").exists()


def test_one_that_fails_does_not_keep_the_others_from_their_turn(tmp_path, capsys):
    def fails(_lab, cell, _system, _links):
        if cell.system == "etcd" and cell.repeat == 1:
            raise RuntimeError("n1 ended with 1")

    lab = FakeLab(tmp_path, BOTH)
    with pytest.raises(cells.CellsFailed, match=r"2 of 8 cells failed \(01-etcd-nodes-3"):
        cells.play(fails, lab)
    assert len(lab.deployed) == 8
    assert "n1 ended with 1" in capsys.readouterr().err
    failure = tmp_path / "cells" / "01-etcd-nodes-3" / "failure.txt"
    assert "n1 ended with 1" in failure.read_text()
    again = FakeLab(tmp_path, BOTH)
    cells.play(fine, again)
    assert [name for *_, name in again.deployed] == ["01-etcd-nodes-3", "01-etcd-nodes-5"]
    assert not failure.exists()


def test_a_violation_is_told_as_one(tmp_path):
    def wrong(_lab, cell, _system, _links):
        if cell.repeat == 2:
            raise CheckFailed("a history has no order")

    with pytest.raises(CheckFailed):
        cells.play(wrong, FakeLab(tmp_path, BOTH))


def test_what_differs_from_a_run_is_named(tmp_path):
    write_json(tmp_path / "experiment.json", BOTH.as_json())
    assert resume.differences(BOTH, tmp_path) == []
    assert resume.differences(replace(BOTH, keys=5), tmp_path) == ["keys"]
    assert resume.systems_of(tmp_path) == ("loggos", "etcd")


def test_repetitions_may_be_added_but_what_was_played_stays(tmp_path):
    write_json(tmp_path / "experiment.json", BOTH.as_json())
    assert resume.differences(replace(BOTH, repeats=1), tmp_path) == []
    cells.play(fine, FakeLab(tmp_path, BOTH))
    assert resume.differences(replace(BOTH, repeats=3), tmp_path) == []
    assert resume.differences(replace(BOTH, repeats=1), tmp_path) == ["repeats"]
    more = FakeLab(tmp_path, replace(BOTH, repeats=3))
    cells.play(fine, more)
    assert {name[:2] for *_, name in more.deployed} == {"03"}


def test_where_a_run_was_played_is_kept_when_it_is_gone_on_with(tmp_path):
    path = tmp_path / "environment.json"
    assert resume.earlier_environments(path) == []
    first, second = {"commit": "1", "links": "by a"}, {"commit": "2", "links": "by b"}
    write_json(path, resume.with_earlier(first, []))
    earlier = resume.earlier_environments(path)
    assert earlier == [first]
    # It ended before anything was played, and then there was nothing left to play.
    write_json(path, {"commit": "1b", "earlier": earlier})
    earlier = resume.earlier_environments(path)
    assert resume.with_earlier({"commit": "1c"}, earlier) == {**first, "earlier": []}
    write_json(path, resume.with_earlier(second, earlier))
    assert resume.earlier_environments(path) == [first, second]


def test_only_comparisons_have_repetitions_to_choose():
    assert lab_run.with_repeats(BOTH, None) == BOTH
    assert lab_run.with_repeats(BOTH, 4).repeats == 4
    with pytest.raises(lab_run.WrongUse, match="one at least"):
        lab_run.with_repeats(BOTH, 0)
    with pytest.raises(lab_run.WrongUse, match="timeline is no comparison"):
        lab_run.with_repeats(lab_run.EXPERIMENTS["timeline"], 3)


def test_a_folder_without_a_run_is_begun_in_if_it_is_empty(tmp_path):
    for _ in range(2):
        lab_run.begin_or_go_on(BOTH, tmp_path / "new" / "run")
    (tmp_path / "mine.txt").touch()
    with pytest.raises(lab_run.WrongUse, match="no run to go on with"):
        lab_run.begin_or_go_on(BOTH, tmp_path)


def test_other_parameters_are_refused(tmp_path):
    write_json(tmp_path / "experiment.json", BOTH.as_json())
    with pytest.raises(lab_run.WrongUse, match=r"other parameters \(keys\)"):
        lab_run.must_be_alike(replace(BOTH, keys=5), tmp_path)
    lab_run.must_be_alike(BOTH, tmp_path)


def options(**changes):
    values = {
        "experiment": "failover", "systems": "", "dry_run": True, "results": Path("/nonexistent"),
        "run_id": "none", "binary": Path("/nonexistent/loggos"), "needs": "names",
    }  # fmt: skip
    return SimpleNamespace(**values | changes)


def test_systems_that_do_not_suit_are_left_out(capsys):
    chosen = lab_run.with_systems(comparisons.FAILOVER, options(systems="etcd, redis,loggos"))
    assert chosen.systems == ("loggos", "etcd")
    assert "without redis: it is one node" in capsys.readouterr().err
    with pytest.raises(lab_run.WrongUse, match="no system left"):
        lab_run.with_systems(comparisons.FAILOVER, options(systems="redis"))


def test_a_system_that_is_asked_for_must_be_there(monkeypatch):
    monkeypatch.delenv("LIBPAXOS_DIR", raising=False)
    asked = options(systems="libpaxos", dry_run=False)
    with pytest.raises(lab_run.WrongUse, match=r"LIBPAXOS_DIR=/path/to"):
        lab_run.with_systems(comparisons.STEADY, asked)


def test_where_nothing_is_said_all_that_is_at_hand_takes_part(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("LIBPAXOS_DIR", raising=False)
    for name in ("loggos", "rival-load", "omnipaxos-kv"):
        (tmp_path / name).touch()
    here = options(binary=tmp_path / "loggos", dry_run=False)
    chosen = lab_run.with_systems(comparisons.STEADY, here).systems
    assert {"loggos", "omnipaxos", "omnipaxos-durable"} <= set(chosen)
    assert "libpaxos" not in chosen and "loggos-split" not in chosen
    assert "without libpaxos: LIBPAXOS_DIR is not given" in capsys.readouterr().err


def test_unknown_names_are_told_the_known_ones():
    with pytest.raises(lab_run.WrongUse, match="there are: loggos, "):
        lab_run.asked_systems("raft")
    with pytest.raises(lab_run.WrongUse, match="there are: steady, "):
        lab_run.needs(options(experiment="raft"))
    with pytest.raises(lab_run.WrongUse, match="of loggos alone"):
        quorums = lab_run.EXPERIMENTS["quorums"]
        lab_run.with_systems(quorums, options(experiment="quorums", systems="etcd"))


def test_what_a_script_sees_to():
    names = lab_run.needs(options(experiment="all"))
    assert set(lab_run.COMPARISONS) < set(names)
    assert "partition" in names and "smoke" not in names
    compared = lab_run.needs(options(experiment="all", needs="compared"))
    assert set(compared) == {*lab_run.COMPARISONS, "ablation"}
    everything = {"experiment": "all", "systems": "all"}
    assert lab_run.needs(options(**everything, needs="setup")) == ["etcd", "redis"]
    assert lab_run.needs(options(**everything, needs="build"))[0] == "rivals"
    assert lab_run.needs(options(experiment="quorums", needs="build")) == []


def test_every_system_says_what_its_numbers_include_and_what_is_done():
    for experiment in lab_run.COMPARISONS:
        for adapter in SYSTEMS.values():
            assert len(adapter.about) > 40
            if not lab_run.EXPERIMENTS[experiment].unfit(adapter):
                assert list(lab_run.EXPERIMENTS[experiment].plan(adapter))


def test_the_last_of_several_runs_puts_the_machine_back(tmp_path, monkeypatch):
    """Else the first to end takes from the others what their next cell needs."""
    machine = tmp_path / "allowed"
    machine.write_text("reno bbr\n")
    monkeypatch.setattr(lab_run, "ALLOWED", machine)
    monkeypatch.setattr(lab_run, "ALLOWED_BEFORE", tmp_path / "before")
    first, second = lab_run.allowed("cubic"), lab_run.allowed("cubic")
    first.__enter__()
    second.__enter__()
    assert machine.read_text().split() == ["reno", "bbr", "cubic"]
    first.__exit__(None, None, None)
    assert machine.read_text().split() == ["reno", "bbr", "cubic"]
    second.__exit__(None, None, None)
    assert machine.read_text().split() == ["reno", "bbr"]
    with lab_run.allowed("bbr"):
        assert machine.read_text().split() == ["reno", "bbr"]
