"""Two runs side by side, and which run a notebook shows."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from loggos import compare, runs

DATA = Path(__file__).parent / "data"


def table(*rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["system", "nodes", "n", "achieved", "achieved_half", "p50"])


def test_rows_are_joined_by_what_names_them():
    first = table(("loggos", 3, 5, 100.0, 5.0, 1.0), ("etcd", 3, 5, 50.0, 5.0, 2.0))
    second = table(("etcd", 3, 5, 51.0, 5.0, 3.0), ("loggos", 3, 5, 150.0, 5.0, 1.0))
    found = compare.tables(first, second, ["system", "nodes"]).set_index(["system", "measure"])
    assert found.loc[("loggos", "achieved"), "ratio"] == 1.5
    assert found.loc[("loggos", "achieved"), "apart"] == "yes"
    assert found.loc[("etcd", "achieved"), "apart"] == "no"
    # Without an interval nothing is claimed, however far apart they are.
    assert found.loc[("etcd", "p50"), "apart"] == "unknown"
    assert set(found.index.get_level_values("measure")) == {"achieved", "p50"}


def test_a_range_of_the_repeats_tells_as_well():
    rows = pd.DataFrame({"q": [1], "p50": [2.0], "p50_low": [1.0], "p50_high": [3.0]})
    later = rows.assign(p50=4.0, p50_low=3.5, p50_high=5.0)
    assert compare.tables(rows, later, ["q"])["apart"].tolist() == ["yes"]
    assert compare.tables(rows, rows, ["q"])["apart"].tolist() == ["no"]
    none = compare.tables(rows.assign(p50=0.0), rows, ["q"])
    assert np.isnan(none["ratio"][0])


def test_runs_that_have_nothing_in_common_are_refused():
    first = table(("loggos", 3, 5, 100.0, 5.0, 1.0))
    with pytest.raises(ValueError, match="no system, nodes in common"):
        compare.tables(first, first.assign(nodes=5), ["system", "nodes"])


def test_two_recorded_runs(capsys):
    runs_of = [str(DATA / "results" / "steady"), str(DATA / "later" / "steady")]
    assert compare.main(runs_of) == 0
    out = capsys.readouterr().out
    assert "| load_average |" in out
    assert "| loggos | open-001000 | achieved |" in out


def test_wrong_use_is_told(tmp_path, capsys):
    steady, sizes = (str(DATA / "results" / name) for name in ("steady", "sizes"))
    assert compare.main([steady, sizes]) == 1
    assert "is of steady" in capsys.readouterr().err
    (tmp_path / "experiment.json").write_text(json.dumps({"kind": "steady"}))
    assert compare.main([steady, str(tmp_path)]) == 1
    assert "python -m loggos.analyse" in capsys.readouterr().err
    assert compare.main([steady, str(tmp_path / "nowhere")]) == 1
    assert "not a run" in capsys.readouterr().err


def test_the_pair_of_the_notebook(monkeypatch):
    monkeypatch.delenv("LOGGOS_OTHER", raising=False)
    monkeypatch.setenv("LOGGOS_RUN", "mine")
    root = DATA.parents[2]
    assert all((path / "summary.csv").exists() for path in compare.pair(root))
    monkeypatch.setenv("LOGGOS_OTHER", "yours")
    assert compare.pair(root) == (Path("mine"), Path("yours"))
    monkeypatch.delenv("LOGGOS_RUN")
    with pytest.raises(ValueError, match="none to compare it with"):
        compare.pair(root)


def new_run(path: Path, kind: str, header: str = "") -> Path:
    path.mkdir(parents=True)
    (path / "experiment.json").write_text(json.dumps({"kind": kind}))
    if header:
        (path / "summary.csv").write_text(header + "\n")
    return path


def test_a_notebook_shows_the_named_run_if_it_is_of_its_kind(tmp_path, monkeypatch):
    monkeypatch.delenv("LOGGOS_RUN", raising=False)

    def chosen() -> Path:
        return runs.chosen(tmp_path, "steady", "summary.csv", "system")

    with pytest.raises(FileNotFoundError, match="EXPERIMENT=steady"):
        chosen()
    sample = new_run(
        tmp_path / "python" / "tests" / "data" / "results" / "steady", "steady", "system"
    )
    assert chosen() == sample
    # Published before there were systems to compare: another table.
    published = new_run(tmp_path / "results" / "steady", "steady", "offered")
    assert chosen() == sample
    (published / "summary.csv").write_text("system\n")
    assert chosen() == published
    new_run(published / "20260101-000000", "steady")
    assert chosen() == published, "the newest is not analysed yet"
    newest = new_run(published / "20260102-000000", "steady", "system")
    assert chosen() == newest
    other = new_run(tmp_path / "other", "sizes", "system")
    monkeypatch.setenv("LOGGOS_RUN", str(other))
    assert chosen() == newest
    monkeypatch.setenv("LOGGOS_RUN", str(published / "20260101-000000"))
    with pytest.raises(ValueError, match="analyse it anew"):
        chosen()
