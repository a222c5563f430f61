"""A whole run of known latencies and a known outage, from its folder to its tables and figures."""

import json
from pathlib import Path

import pandas as pd
import pytest
import redrawn
import synthetic

from loggos import analyse, faults, runs, stages, timeline
from loggos.marks import of


def test_stages_find_the_durations_that_were_put_in(run):
    requests = stages.requests(run.events, run.operations)
    assert stages.coverage(requests, run.operations) == 1
    calm = requests[requests["start_ns"] < synthetic.ORIGIN_NS + 1e9]
    for name, duration in synthetic.STAGE_NS.items():
        assert set(calm[name]) == {duration}
    assert (requests[list(stages.STAGES)].sum(axis=1) == requests["latency_ns"]).all()
    assert set(requests["leader"]) == {1, 2}
    table = stages.summary(calm).set_index("stage")
    assert table.loc["total", "p50_us"] == 200
    assert table.loc["sync", "share"] == pytest.approx(0.3)


def test_a_quorum_faster_than_the_leaders_disk_has_not_waited_for_it(run):
    # The leader's sync record comes 100 us after the slot is chosen by the two others.
    events = run.events.copy()
    events.loc[events["kind"] == 22, "time_ns"] += 130_000
    requests = stages.requests(events.sort_values("time_ns"), run.operations)
    assert set(requests["sync_own"]) == {190_000}
    assert set(requests["sync"]) == {90_000}
    assert set(requests["quorum"]) == {0}


def test_commands_whose_records_are_gone_are_left_out(run):
    # A node killed with kill -9 takes what it had buffered with it.
    lost = (run.events["writer"] == 1) & run.events["kind"].eq(25)
    requests = stages.requests(run.events[~lost], run.operations)
    assert set(requests["leader"]) == {2}
    assert 0 < stages.coverage(requests, run.operations) < 1


def test_leaders_and_elections(run):
    leaders = faults.leaders(run)
    assert leaders["node"].tolist() == [1, 2]
    killed_ns = synthetic.ORIGIN_NS + 2_000_000_000
    assert leaders["end_ns"][0] == killed_ns
    elections = faults.elections(run)
    assert elections["node"].tolist() == [2]
    assert elections["time_ns"].tolist() == [killed_ns + 150_000_000]


def test_two_ballots_of_one_round_are_ordered_by_their_node(run):
    # At the start two nodes may compete at the same moment; the loser must not seem to lead.
    first = run.events[run.events["kind"] == 3].iloc[[0]]
    rival = first.assign(node=3, time_ns=first["time_ns"] + 1000, writer=3)
    both = runs.Run(run.path, run.experiment)
    both.__dict__["events"] = pd.concat([run.events, rival]).sort_values("time_ns", kind="stable")
    assert faults.leaders(both)["node"].tolist() == [1, 3, 2]


def test_a_leader_whose_own_records_died_is_known_from_its_followers(run):
    events = run.events
    mine = events["writer"].eq(2) & events["kind"].eq(5)
    without = runs.Run(run.path, run.experiment)
    without.__dict__["events"] = events[~mine]
    assert faults.leaders(without)["node"].tolist() == [1, 2]


def test_summary_has_a_row_for_the_calm_and_for_each_fault(run):
    table = faults.summary(run).set_index("fault")
    assert table.index.tolist() == ["no fault", "kill n1 (leader)", "restart n1"]
    assert table.loc["no fault", "downtime_ms"] == pytest.approx(5)
    assert table.loc["kill n1 (leader)", "downtime_ms"] == pytest.approx(150.2)
    assert table.loc["kill n1 (leader)", "elected_ms"] == pytest.approx(150)
    assert table["recovered"].tolist()[1:2] == [True]
    assert table["mean_per_s"].round().tolist() == [200, 200, 200]


def test_spans_last_from_a_fault_to_its_end(run):
    spans = faults.spans(run)
    assert spans["action"].tolist() == ["kill"]
    assert (spans["end_ns"] - spans["start_ns"]).tolist() == [1_000_000_000]


def test_what_a_figure_over_time_shows_is_a_table(run):
    windows = timeline.windows(run)
    assert windows["at_s"].tolist()[:2] == pytest.approx([0.05, 0.15])
    # The leader is dead from 2 s on, and all that waited is answered at 2.15 s.
    rates = windows.set_index(windows["at_s"].round(2))["per_second"]
    assert rates[1.05] == pytest.approx(200)
    assert rates[2.05] == 0
    assert windows["p50_ms"][0] == pytest.approx(0.2)
    marks = timeline.marked(run)
    assert marks["node"].dtype.kind == "i"

    def spans(what):
        rows = of(marks, what)
        return [tuple(row) for row in rows[["node", "start_s", "end_s"]].round(3).to_numpy()]

    end = of(marks, "load")["end_s"].iloc[0]
    assert end == pytest.approx(4.995)
    assert spans("node") == [(1, 0, 4.995), (2, 0, 4.995), (3, 0, 4.995)]
    # It led before there was load, of which the figure shows nothing.
    assert spans("leads") == [(1, 0, 2), (2, 2.15, 4.995)]
    assert spans("dead") == [(1, 2, 3)]
    assert spans("kill") == [(0, 2, 3)]
    assert spans("elected") == [(2, 2.15, 2.15)]
    assert of(marks, "event")["label"].tolist() == ["kill n1 (leader)", "restart n1"]


def test_an_election_is_told_in_milliseconds_since_the_fault(run):
    marks = timeline.election(run, run.schedule.iloc[0])
    assert set(marks["event"]) == {1}
    whole, gap = of(marks, "load").iloc[0], of(marks, "gap").iloc[0]
    # The outage lasts 150.2 ms; shown is 1.8 times as much.
    assert (gap["start_ms"], gap["end_ms"]) == pytest.approx((0, 150.2))
    assert (whole["start_ms"], whole["end_ms"]) == pytest.approx((-0.36 * 150.2, 1.8 * 150.2))
    assert of(marks, "adopted")[["node", "start_ms"]].to_numpy().tolist() == [[2, 150]]
    assert of(marks, "peer_down")["node"].tolist() == [2, 3]
    replies = of(marks, "reply")["start_ms"]
    assert replies.between(whole["start_ms"], whole["end_ms"]).all()
    # All that waited is answered at one moment, which is one mark in the figure.
    assert replies.between(150, 151).sum() == 1
    assert not replies.between(1, 150).any()
    longer = timeline.election(run, run.schedule.iloc[0], after_ms=1000)
    assert of(longer, "load")["end_ms"].tolist() == [1000]


def test_replies_are_as_many_as_a_figure_can_show(run, monkeypatch):
    monkeypatch.setattr(timeline, "REPLIES_MAX", 10)
    marks = timeline.election(run, run.schedule.iloc[0])
    assert 3 <= len(of(marks, "reply")) <= 10


def test_stages_are_told_by_their_quantiles(run):
    requests = stages.requests(run.events, run.operations)
    table = stages.quantiles(requests).set_index("stage")
    assert table.index.tolist() == [*stages.STAGES, "total"]
    assert table.loc["sync"].tolist() == pytest.approx([60, 60, 60, 60])
    assert table.loc["total", "p50_us"] == pytest.approx(200)
    # 30 of 1,000 waited for the new leader, up to 150 ms.
    assert 100_000 < table.loc["total", "p99_us"] < 150_300


def test_figures_over_time_are_drawn_again_of_tables(tmp_path):
    run = synthetic.write_run(tmp_path / "timeline" / "20260101-000000", per_second=100)
    assert analyse.main([str(run)]) == 0
    redrawn.same(run, "timeline", tmp_path / "results", "timeline", "election-1", "stages")


def test_analyse_writes_tables_and_figures(run, capsys):
    assert analyse.main([str(run.path)]) == 0
    out = capsys.readouterr().out
    assert "Lost: 0, duplicated: 0" in out
    assert "operations on 50 keys have an order, 3 of them without a reply" in out
    assert "8 slots were applied" in out
    table = pd.read_csv(run.path / "summary.csv")
    assert table["downtime_ms"][1] == pytest.approx(150.2)
    for figure in ["timeline", "stages", "election-1"]:
        for suffix in ["svg", "png"]:
            assert (run.path / "figures" / f"{figure}.{suffix}").stat().st_size > 1000


def test_analyse_fails_where_something_was_lost(tmp_path, capsys):
    path = synthetic.write_run(tmp_path / "failover" / "20260101-000001", per_second=50, lost=2)
    assert analyse.main([str(path)]) == 1
    assert "2 acknowledged operations lost" in capsys.readouterr().out


def test_analyse_fails_where_a_history_has_no_order(tmp_path, capsys):
    path = synthetic.write_run(tmp_path / "failover" / "20260101-000004", 50, violated=1)
    assert analyse.main([str(path)]) == 1
    out = capsys.readouterr().out
    assert "the operations on 1 keys have no order" in out
    assert "```text\nkey k1\n  no order\n```" in out


def test_analyse_says_where_nothing_was_judged(run, tmp_path):
    # Runs of earlier releases have no check.json.
    before = runs.Run(tmp_path, run.experiment)
    assert analyse.judged(before) == "No history was recorded, so none was judged."
    undecided = runs.Run(run.path, run.experiment, outcome={"ok": True})
    undecided.verdicts[0]["histories"]["cut_short"] = 1
    assert analyse.judged(undecided) == "The histories were not decided."
    assert not analyse.verdict(undecided)[0]


def test_analyse_fails_where_the_run_failed(tmp_path, capsys):
    path = synthetic.write_run(tmp_path / "failover" / "20260101-000002", per_second=50)
    (path / "outcome.json").write_text(json.dumps({"ok": False, "error": "n2 did not start"}))
    assert analyse.main([str(path)]) == 1
    assert "n2 did not start" in capsys.readouterr().out


def test_analyse_says_what_is_missing(tmp_path, capsys):
    assert analyse.main([str(tmp_path)]) == 1
    assert "no experiment.json" in capsys.readouterr().err


def test_publish_leaves_links_that_work(tmp_path):
    path = synthetic.write_run(tmp_path / "failover" / "20260101-000003", per_second=50)
    assert analyse.main([str(path), "--publish"]) == 0
    text = (tmp_path / "failover" / "summary.md").read_text()
    assert "](timeline.svg)" in text
    assert (tmp_path / "failover" / "timeline.svg").exists()


def test_newest_run_by_its_name(tmp_path):
    assert runs.newest(tmp_path) is None
    for name in ["20260101-000000", "20260301-000000", "20260201-000000"]:
        synthetic.write_run(tmp_path / "timeline" / name, per_second=10)
    assert runs.newest(tmp_path).name == "20260301-000000"


def test_the_recorded_sample():
    # A run of the real thing: whatever it writes must be what this package reads.
    sample = runs.load(Path(__file__).parent / "data" / "timeline")
    table = faults.summary(sample).set_index("fault")
    killed = next(name for name in table.index if name.startswith("kill"))
    assert table.loc[killed, "downtime_ms"] < 1000
    assert table.loc[killed, "elected_ms"] < table.loc[killed, "downtime_ms"]
    requests = stages.requests(sample.events, sample.operations)
    assert stages.coverage(requests, sample.operations) > 0.9
    assert analyse.verdict(sample)[0]


def test_stages_window_by_window_are_those_of_the_whole(run):
    sample = runs.load(Path(__file__).parent / "data" / "timeline")
    for one, more in ((run, 0), (sample, 2)):
        whole = rows_of(stages.requests(one.events, one.operations))
        for window_ns in (50_000_000, 700_000_000, 60_000_000_000):
            fresh = runs.Run(one.path, one.experiment)
            found = rows_of(stages.of_run(fresh, window_ns))
            assert whole <= found
            # Around an election a window knows less of earlier leads that contradict a request.
            assert len(found) <= len(whole) + more
            # It had no use for the rest of the history.
            assert "events" not in fresh.__dict__


def rows_of(requests: pd.DataFrame) -> set[tuple]:
    return set(requests.fillna(-1).itertuples(index=False, name=None))
