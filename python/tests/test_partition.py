"""How long service was away, from times that are known; and that scenarios cut what they say."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import synthetic

from loggos import analyse, partition
from loggos.trace import Kind

sys.path.append(str(Path(__file__).resolve().parents[2] / "mininet"))

import scenarios
import well

MS = 1_000_000
TIMEOUT = 100 * MS
CUT, HEAL, WELL = 10_000 * MS, 10_600 * MS, 11_000 * MS


def course(**changes):
    line = {
        "scenario": "quorum-loss",
        "case": "",
        "repetition": 1,
        "roles": [1, 2, 3],
        "linked": [1, 2, 3],
        "once": True,
        "disturbed": False,
        "begin_ns": CUT,
        "cut_ns": CUT,
        "heal_ns": HEAL,
        "well_ns": WELL,
    }
    return line | changes


def ends(*gaps_ms):
    """Replies every 5 ms from a second before the cut on, but for these times after it."""
    times = np.arange(CUT - 1000 * MS, WELL, 5 * MS)
    for begin, end in gaps_ms:
        times = times[(times <= CUT + begin * MS) | (times >= CUT + end * MS)]
    return times


def measured(replies_ms, elected_ms=(), **changes):
    """The row of one course in which each node's clients missed these times."""
    frames = [
        pd.DataFrame({"end_ns": ends(*gaps), "node": node}) for node, gaps in replies_ms.items()
    ]
    replies = pd.concat(frames).sort_values("end_ns")
    signs = pd.DataFrame({"time_ns": np.array([CUT + ms * MS for ms in elected_ms], np.int64)})
    courses = pd.DataFrame([course(**changes)])
    return partition.measured(courses, signs, replies, 3, TIMEOUT).iloc[0]


def test_service_is_away_from_the_cut_until_it_is_back():
    # A last reply comes 30 ms after the cut; the time counts from the cut all the same.
    row = measured({1: [(30, 250)], 2: [(10, 250)], 3: [(10, 380)]}, [245])
    assert (row["away"], row["away_all"], row["back"]) == (2.5, 3.8, True)
    assert (row["elected"], row["after"], row["healed"]) == (1, 0, 0)


def test_pauses_are_no_outage():
    row = measured({1: [(200, 260)], 2: [(200, 260)], 3: [(200, 260)]})
    assert row["away"] == pytest.approx(0.6)
    assert row["back"]


def test_service_that_does_not_come_back_is_said_so():
    row = measured({1: [(0, 700)], 2: [(0, 700)], 3: [(0, 700)]})
    assert (row["away"], row["back"]) == (6.0, False)
    table = partition.summary(pd.DataFrame([row]))
    assert table["above_bar"].tolist() == [1]


def test_where_links_change_all_the_time_only_the_gap_counts():
    row = measured({1: [(300, 450)], 2: [(300, 450)], 3: [(300, 450)]}, once=False)
    assert row["away"] == pytest.approx(1.5)


def test_a_pause_long_after_the_cut_is_no_election():
    # The machine's: it is counted, but not from the cut.
    row = measured({1: [(400, 550)], 2: [(400, 550)], 3: [(400, 550)]})
    assert row["away"] == pytest.approx(1.5)


def test_nodes_without_a_whole_link_need_not_be_served():
    row = measured({1: [(0, 600)], 2: [(0, 200)], 3: [(0, 210)]}, linked=[2, 3])
    assert row["away_all"] == 2.1


def test_leaders_elected_late_are_counted_apart():
    # One in time, one behind the bar, one after the heal, and one that belongs to the next course.
    row = measured({1: [(0, 200)], 2: [(0, 200)], 3: [(0, 200)]}, [150, 450, 700, 1001])
    assert (row["elected"], row["after"], row["healed"]) == (2, 1, 1)


def test_summary_keeps_the_order_of_the_scenarios():
    rows = [
        {"nodes": nodes, "scenario": name, "case": "", "away": away, "away_all": away,
         "back": True, "elected": 1, "after": 0, "healed": 0}
        for nodes in (3, 5) for name in ("two", "one") for away in (1.0, 2.0, 6.0)
    ]  # fmt: skip
    table = partition.summary(pd.DataFrame(rows))
    assert table["scenario"].tolist() == ["two", "two", "one", "one"]
    assert table["nodes"].tolist() == [3, 5, 3, 5]
    first = table.iloc[0]
    assert (first["n"], first["median"], first["mean"], first["above_bar"]) == (3, 2.0, 3.0, 1)
    assert first["ci95"] == pytest.approx(4.303 * np.std([1, 2, 6], ddof=1) / np.sqrt(3), rel=1e-3)


def test_a_run_of_two_clusters(tmp_path, capsys):
    """From the folders to the page: of 3 nodes in time, of 5 too late."""
    path = synthetic.write_run(tmp_path / "partition" / "20260101-000000", per_second=10)
    experiment = json.loads((path / "experiment.json").read_text())
    experiment |= {"name": "partition", "kind": "partition", "sizes": [3, 5]}
    (path / "experiment.json").write_text(json.dumps(experiment))
    for nodes, back_ms in ((3, 250), (5, 450)):
        traces = path / f"{nodes}-nodes" / "traces"
        sign = synthetic.record(CUT + 200 * MS, Kind.ADOPTED, 2, a=2)
        synthetic.write_trace(traces / "n2.trace", 2, [sign])
        for node in range(1, nodes + 1):
            records = [
                synthetic.record(int(end), Kind.CLIENT_OPERATION, node, a=1, b=1, c=int(end) - 1)
                for end in ends((0, back_ms))
            ]
            synthetic.write_trace(traces / f"bench-n{node}.trace", 0, records)
        line = course(case="L→a", roles=list(range(1, nodes + 1)))
        lines = [line | {"disturbed": True, "heal_ns": HEAL + 1}, line]
        text = "".join(json.dumps(one) + "\n" for one in lines)
        (traces.parent / "cuts.jsonl").write_text(text)
    assert analyse.main([str(path)]) == 0
    out = capsys.readouterr().out
    assert "In 1 of 2 courses it took more than 4 election timeouts" in out
    assert "| quorum-loss | L→a | 5 | 1 | 4.50 |" in out
    table = pd.read_csv(path / "summary.csv")
    assert table["max"].tolist() == [2.5, 4.5]
    assert table["above_bar"].tolist() == [0, 1]
    assert (path / "figures" / "away.png").stat().st_size > 1000


# The scenarios


def reached(nodes, cut, node):
    """Which nodes it has a whole link to, itself included."""
    others = (other for other in range(nodes) if other != node)
    return {node, *(o for o in others if not {(node, o), (o, node)} & set(cut))}


def quorum_connected(nodes, phase):
    return {n for n in range(nodes) if 2 * len(reached(nodes, phase.cut, n)) > nodes}


@pytest.mark.parametrize("nodes", [3, 5])
def test_scenarios_leave_those_a_quorum_that_they_say(nodes):
    def ends_with(name):
        (case,) = scenarios.all_scenarios(nodes)[name].cases
        return case.phases[-1]

    everybody = set(range(nodes))
    hub_only = {1, 2} if nodes == 3 else {1}
    assert quorum_connected(nodes, ends_with("quorum-loss")) == hub_only
    assert quorum_connected(nodes, ends_with("constrained")) == hub_only
    assert quorum_connected(nodes, ends_with("all-connected")) == everybody
    assert quorum_connected(nodes, ends_with("one-hub")) == (everybody if nodes == 3 else {1})
    two = ends_with("two-hubs")
    assert quorum_connected(nodes, two) == everybody
    assert reached(nodes, two.cut, 1) == everybody - {2}
    assert reached(nodes, two.cut, 2) == everybody - {1}
    chain = ends_with("chained")
    assert quorum_connected(nodes, chain) == ({0, 1, 2} if nodes == 3 else {1, 2, 3})
    assert reached(nodes, chain.cut, 0) == {0, 1}


def test_an_experiment_may_play_some_scenarios_only(tmp_path, monkeypatch):
    """Then there may be none of several cases to tell apart."""
    some = SimpleNamespace(scenarios=("chained", "quorum-loss"))
    assert [it.name for it in scenarios.of_experiment(some, 3)] == ["chained", "quorum-loss"]
    every = scenarios.of_experiment(SimpleNamespace(scenarios=()), 5)
    assert every == list(scenarios.all_scenarios(5).values())
    row = measured({1: [], 2: [], 3: []})
    monkeypatch.setattr(partition, "cuts", lambda _: pd.DataFrame([row, row]))
    table, parts = partition.report(SimpleNamespace(path=tmp_path), tmp_path)
    assert len(table) == 1
    assert not any("Case by case" in part for part in parts)


@pytest.mark.parametrize("nodes", [3, 5])
def test_from_any_connectivity_in_which_one_reaches_a_quorum(nodes):
    # What is promised at all: without such a node no election could end.
    for scenario in scenarios.all_scenarios(nodes).values():
        for case in scenario.cases:
            assert quorum_connected(nodes, case.phases[-1]), (scenario.name, case.name)


def test_every_kind_of_one_way_cut_is_there_once():
    """Counted by hand: which follower is which makes no difference, which node leads does."""
    assert [scenarios.words(cut) for cut in scenarios.one_way_cuts(3, 1)] == ["L→a", "a→L", "a→b"]
    assert len(scenarios.one_way_cuts(5, 1)) == 3
    assert len(scenarios.one_way_cuts(3, 2)) == 9
    assert len(scenarios.one_way_cuts(5, 2)) == 15


def test_all_is_well_only_if_all_agree():
    def answers(**changes):
        one = {
            node: {
                "leader": 1,
                "leading": node == 1,
                "first_unchosen": 500,
                "peers": [{"heard": True}, {"heard": True}],
            }
            for node in (1, 2, 3)
        }
        one[2] |= changes
        return one

    nodes = [1, 2, 3]
    assert well.agreed_leader(answers(), nodes) == 1
    assert well.agreed_leader(answers(leader=3), nodes) is None
    assert well.agreed_leader(answers(first_unchosen=300), nodes) is None
    assert well.agreed_leader(answers(peers=[{"heard": False}]), nodes) is None
    assert well.agreed_leader({1: answers()[1]}, nodes) is None
