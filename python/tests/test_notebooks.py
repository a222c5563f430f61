"""The notebooks run from top to bottom on recorded runs, and show what they promise."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

PYTHON = Path(__file__).parent.parent
DATA = PYTHON / "tests" / "data"
# By notebook: the run that it shows here, and how many figures are in it.
SHOWN = {
    "compare": (DATA / "results" / "steady", 1),
    "failures": (DATA / "timeline", 3),
    "partition": (PYTHON.parent / "results" / "partition", 1),
    "reconfigure": (DATA / "reconfigure", 1),
    "sizes": (DATA / "results" / "sizes", 1),
    "stages": (DATA / "timeline", 2),
    "steady": (DATA / "results" / "steady", 2),
}
NOTEBOOKS = sorted(PYTHON.glob("notebooks/*.ipynb"))


def test_each_notebook_is_run():
    assert [path.stem for path in NOTEBOOKS] == sorted(SHOWN)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path, monkeypatch):
    run, figures = SHOWN[path.stem]
    monkeypatch.setenv("LOGGOS_RUN", str(run))
    monkeypatch.delenv("LOGGOS_OTHER", raising=False)
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    ).execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    images = [out for out in outputs if "image/png" in out.get("data", {})]
    assert len(images) == figures
    # Each shows a table, too, with something in it.
    tables = [out for out in outputs if "<table" in out.get("data", {}).get("text/html", "")]
    assert tables
    assert all("<td>" in out["data"]["text/html"] for out in tables)
    # Committed notebooks carry no output: it would be out of date, and large.
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs")
