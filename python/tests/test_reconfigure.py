"""What nodes sent and what clients noticed while nodes were replaced, from known samples."""

import json

import pandas as pd
import pytest
import redrawn
import synthetic

from loggos import analyse, reconfigure

S = 1_000_000_000


def test_bytes_are_told_by_the_second_and_by_who_led():
    samples = pd.DataFrame(
        {"time_ns": [0, 2 * S, 3 * S], "n1": [0, 4000, 4000], "n2": [5, 5, 1005]}
    )
    rates = reconfigure.sent(samples)
    assert rates["n1"].tolist() == [2000, 0]
    assert rates["n2"].tolist() == [0, 1000]
    leads = pd.DataFrame({"node": [1, 2], "start_ns": [S, 5 * S // 2]})
    assert reconfigure.by_leader(rates, leads).tolist() == [2000, 1000]
    late = pd.DataFrame({"node": [1], "start_ns": [5 * S // 2]})
    assert reconfigure.by_leader(rates, late).isna().tolist() == [True, False]


def test_a_whole_run(tmp_path, capsys):
    """The synthetic run's outage of 150 ms, with the steps around it."""
    run = synthetic.write_run(tmp_path / "reconfigure" / "20260101-000000", per_second=100)
    experiment = json.loads((run / "experiment.json").read_text())
    experiment |= {"kind": "reconfigure", "members": [1, 2, 3]}
    experiment |= {"replacements": [[1, 4], [2, 5], [4, 6]]}
    (run / "experiment.json").write_text(json.dumps(experiment))
    origin = synthetic.ORIGIN_NS
    lines = [
        # Node 1 leads until 2.15 s, node 2 behind; each sends 1 MB a second while it does.
        {"kind": "sent", "time_ns": origin + at * S // 10,
         "n1": min(at, 21) * 100_000, "n2": max(at - 21, 0) * 100_000}
        for at in range(50)
    ] + [
        {"kind": "step", "label": "replace n1 (leader) by n4",
         "begin_ns": origin + 2 * S, "end_ns": origin + 3 * S, "old": 1, "new": 4},
    ]  # fmt: skip
    (run / "reconfigure.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    assert analyse.main([str(run)]) == 0
    assert "Members at first: n1, n2, n3; in the end: n3, n5, n6." in capsys.readouterr().out
    table = pd.read_csv(run / "summary.csv").set_index("step")
    calm, step = table.loc["calm"], table.loc["replace n1 (leader) by n4"]
    assert calm["leader_mb"] == pytest.approx(2.0, abs=0.11)
    assert step["longest_gap_ms"] == pytest.approx(150.2)
    assert (step["seconds"], step["leader_mb"]) == (1, pytest.approx(1.0, abs=0.11))
    windows = pd.read_csv(run / "timeline-windows.csv")
    # As long as it is known what was sent: from the second sample on to the last.
    assert windows["at_s"].tolist() == pytest.approx([0.05 + at / 10 for at in range(48)])
    assert windows["per_second"].median() == 100
    marks = pd.read_csv(run / "timeline-marks.csv").set_index("what")
    assert marks.loc["load", "end_s"] == pytest.approx(4.8)
    assert marks.loc["step", ["start_s", "end_s"]].tolist() == pytest.approx([1.9, 2.9])
    assert marks.loc["elected", ["node", "start_s"]].tolist() == pytest.approx([2, 2.05])
    sent = pd.read_csv(run / "timeline-sent.csv").set_index("at_s")
    assert sent.loc[1, ["all_mb_per_s", "leader_mb_per_s"]].tolist() == pytest.approx([1, 1])
    redrawn.same(run, "reconfigure", tmp_path / "results", "timeline")
