"""The report: that the committed one is current, and what it makes of tables that are known."""

import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from loggos.report import __main__ as command
from loggos.report import entry, html_page, overview, page
from loggos.report.entries import ENTRIES

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"


def test_the_committed_report_is_of_the_committed_results():
    # Whoever publishes a run, or changes a word, must make the page again.
    assert (RESULTS / "README.md").read_text() == page.page(RESULTS), (
        "results/README.md is not what the published results say: run `make report`, look at the "
        "difference, and commit it"
    )


def test_every_experiment_has_an_entry(monkeypatch):
    # One that is forgotten would be published and never reported.
    monkeypatch.syspath_prepend(str(ROOT / "mininet"))
    before = set(sys.modules)
    from experiments import REPORTED  # noqa: PLC0415

    # Their names are short ones, which other tests use for modules of their own.
    for name in set(sys.modules) - before:
        del sys.modules[name]
    assert set(REPORTED) - set(ENTRIES) == set()


def test_every_figure_that_is_shown_is_drawn_of_tables():
    for one in ENTRIES.values():
        assert set(one.draw) == set(one.figures), one.name


def test_what_is_missing_is_said_and_no_error(tmp_path):
    text = page.page(tmp_path)
    assert text.count("**No results yet.**") == len(ENTRIES)
    assert "- **" not in text.partition("## Speed")[0]


def frame(**systems: tuple[float, float]) -> pd.DataFrame:
    """For each system a value and half its interval."""
    rows = [
        {"system": name, "value": value, "half": half, "low": value - half, "high": value + half}
        for name, (value, half) in systems.items()
    ]
    return pd.DataFrame(rows)


THROUGHPUT = overview.Measure("steady", "ops/s", "Throughput", lambda it: it.csv(), True)
LATENCY = overview.Measure("sizes", "ms", "Latency", lambda it: it.csv())


def test_the_first_is_who_has_most_or_who_takes_least():
    rows = frame(etcd=(100, 1), loggos=(50, 1), redis=(200, 1))
    assert overview.ranked(THROUGHPUT, rows)["system"].tolist() == ["redis", "etcd", "loggos"]
    assert overview.ranked(LATENCY, rows)["system"].tolist() == ["loggos", "etcd", "redis"]
    table = overview.table([(THROUGHPUT, rows), (LATENCY, rows)]).set_index("system")
    assert table.loc["Redis (1 node)", "ops/s"] == "**200 ± 1**"
    assert table.loc["Loggos", "ops/s"] == "50.0 ± 1.0"
    assert table.loc["Loggos", "ms"] == "**50.0 ± 1.0**"


def test_where_loggos_is_not_first_it_is_said():
    said = overview.sentence(THROUGHPUT, frame(etcd=(100, 1), loggos=(50, 1), redis=(200, 1)))
    assert "**not** first but number 3 of 3; Redis (1 node) is 4 times better." in said
    assert said.endswith("Of the 2 that replicate and sync: number 2, behind etcd.")
    rows = {"etcd": (40, 1), "loggos": (50, 1), "omnipaxos": (200, 1)}
    said = overview.sentence(THROUGHPUT, frame(**rows))
    assert said.endswith("Of the 2 that replicate and sync: number 1.")
    said = overview.sentence(LATENCY, frame(etcd=(100, 1), loggos=(50, 1)))
    assert "**Loggos is first**, 2 times better than etcd." in said
    # Another deployment of Loggos is no rival.
    apart = {"loggos-split": (60, 1)}
    assert said == overview.sentence(LATENCY, frame(etcd=(100, 1), loggos=(50, 1), **apart))


def test_reads_are_compared_by_the_way_that_is_the_default(tmp_path):
    (tmp_path / "mix").mkdir()
    (tmp_path / "mix" / "experiment.json").write_text(json.dumps({"name": "mix"}))
    lines = ["system,way,skew,share,achieved,achieved_half"]
    lines += ["loggos,leader,0,1,300,1", "loggos,lease,0,1,400,1", "loggos,leader,0,0.5,9,1"]
    lines += ["etcd,,0,1,100,1", "etcd,,0.99,1,50,1"]
    (tmp_path / "mix" / "summary.csv").write_text("\n".join(lines))
    measure = next(it for it in overview.MEASURES if it.experiment == "mix")
    rows = measure.find(entry.load(tmp_path, "mix"))
    assert rows[["system", "value"]].to_numpy().tolist() == [["loggos", 300], ["etcd", 100]]


def test_a_difference_within_the_intervals_is_called_that():
    near = overview.sentence(THROUGHPUT, frame(etcd=(100, 8), loggos=(110, 8)))
    assert "their intervals overlap" in near
    assert "overlap" not in overview.sentence(THROUGHPUT, frame(etcd=(100, 4), loggos=(110, 4)))
    one = overview.sentence(THROUGHPUT, frame(etcd=(100, float("nan")), loggos=(110, 4)))
    assert "too few repetitions for an interval" in one


def test_results_of_an_earlier_form_are_shown_as_they_are(tmp_path):
    folder = tmp_path / "steady"
    folder.mkdir()
    (folder / "experiment.json").write_text(json.dumps({"name": "steady", "title": "The old one"}))
    (folder / "summary.csv").write_text("offered,achieved\n1000,990\n")
    (folder / "curve.svg").write_text("<svg/>")
    text = "\n".join(page.section(ENTRIES["steady"], entry.load(tmp_path, "steady")))
    assert "of an earlier form of the experiment** (The old one)" in text
    assert "![curve](steady/curve.svg)" in text
    assert "interval" not in text
    assert command.draw(tmp_path) == []
    assert "`steady`" in page.page(tmp_path).partition("Not in this table")[2]


def test_figures_without_their_tables_stay_as_they_are(tmp_path):
    """What was published before figures were drawn of tables has the figures alone."""
    shutil.copytree(RESULTS / "snapshot", tmp_path / "snapshot")
    for path in tmp_path.glob("snapshot/*.csv"):
        if path.name != "summary.csv":
            path.unlink()
    before = (tmp_path / "snapshot" / "disk.svg").read_bytes()
    assert command.draw(tmp_path) == []
    text = "\n".join(page.section(ENTRIES["snapshot"], entry.load(tmp_path, "snapshot")))
    assert "(snapshot/disk.svg)" in text and "There is no figure" not in text
    # One whose table is there is drawn, whatever the others lack.
    disk = pd.DataFrame({"writes": [0, 1_000_000], "n1": [5.0, 50.0]})
    disk.to_csv(tmp_path / "snapshot" / "disk.csv", index=False)
    assert {path.name for path in command.draw(tmp_path)} == {"disk.svg", "disk.png"}
    assert (tmp_path / "snapshot" / "disk.svg").read_bytes() != before


def test_a_long_table_is_cut_and_says_so(tmp_path):
    folder = tmp_path / "ablation"
    folder.mkdir()
    (folder / "experiment.json").write_text(json.dumps({"name": "ablation", "title": "A"}))
    rows = pd.DataFrame({"part": range(30), "rate": 5.0, "rate_half": 0.5})
    rows.to_csv(folder / "summary.csv", index=False)
    text = "\n\n".join(page.section(ENTRIES["ablation"], entry.load(tmp_path, "ablation")))
    assert "| 23 | 5.00 ± 0.50 |" in text
    assert "| 24 |" not in text
    assert "The first 24 of 30 rows." in text


class Outline(HTMLParser):
    """What is open, what can be jumped to, and what is fetched."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.sources = [], [], [], []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes["href"]] if "href" in attributes else []
        self.sources += [attributes["src"]] if "src" in attributes else []
        if tag not in ("meta", "img", "br", "html"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        if tag != "html":
            assert self.open.pop() == tag


def test_the_page_of_html_needs_no_other_file():
    outline = Outline()
    outline.feed(html_page.page(page.page(RESULTS), RESULTS))
    assert outline.open == []
    assert len(outline.sources) >= 8
    assert all(it.startswith("data:image/svg+xml;base64,") for it in outline.sources)
    inner = [link.removeprefix("#") for link in outline.links if link.startswith("#")]
    assert len(inner) > len(ENTRIES)
    assert inner == outline.ids
    assert len(set(inner)) == len(inner)


def test_figures_and_pages_are_made_from_tables_alone(tmp_path, capsys):
    results = tmp_path / "results"
    shutil.copytree(RESULTS, results, ignore=shutil.ignore_patterns("*.png", "2*-*"))
    (results / "quorums" / "quorums.svg").unlink()
    assert command.main([str(results)]) == 0
    assert re.search(r"\d+ figures drawn", capsys.readouterr().out)
    assert (results / "quorums" / "quorums.svg").stat().st_size > 10_000
    assert "There is no figure" not in (results / "README.md").read_text()
    assert (results / "report.html").exists()


def test_a_folder_that_is_not_there_is_named(tmp_path, capsys):
    assert command.main([str(tmp_path / "nowhere")]) == 1
    assert "nowhere is no folder" in capsys.readouterr().err


def test_comparisons_side_by_side(tmp_path):
    """Of a recorded run on a busy machine: what runs write, with numbers that are known."""
    results = tmp_path / "results"
    shutil.copytree(Path(__file__).parent / "data" / "results", results)
    assert {path.stem for path in command.draw(results)} == {
        "latency-throughput", "achieved", "sizes", "downtime",
    }  # fmt: skip
    text = page.page(results)
    head = text.partition("## Speed")[0]
    assert "| Loggos | 11,965 ± 4,819 | **0.66** | **41.0 ± 122.6** |" in head
    assert "Loggos is **not** first but number 2 of 3; Redis (1 node) is 2 times better" in head
    assert "- **etcd** (etcd Version: 3.4.23): every write is synced to disk at a majority" in head
    assert "**Others were using the machine when the run began**" in text


@pytest.mark.parametrize("name", ["bench", "quorums", "reads", "partition"])
def test_drawing_again_gives_the_same_file(tmp_path, name):
    # Else every `make report` would change files that nobody touched.
    shutil.copytree(RESULTS / name, tmp_path / name, ignore=shutil.ignore_patterns("2*-*"))
    first = [path.read_bytes() for path in command.draw(tmp_path)]
    assert first
    assert [path.read_bytes() for path in command.draw(tmp_path)] == first
