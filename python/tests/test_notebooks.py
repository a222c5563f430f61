"""The notebooks run from top to bottom on the recorded sample, and show what they promise."""

import os
from pathlib import Path

import nbformat
import pytest
import synthetic
from nbclient import NotebookClient

PYTHON = Path(__file__).parent.parent


@pytest.mark.parametrize("path", sorted(PYTHON.glob("notebooks/*.ipynb")), ids=lambda p: p.stem)
def test_notebook(path, tmp_path, monkeypatch):
    sample = PYTHON / "tests" / "data" / "failover"
    if not sample.exists():
        sample = synthetic.write_run(tmp_path / "failover" / "20260101-000000")
    monkeypatch.setenv("LOGGOS_RUN", str(sample))
    # The kernel is a process of its own; it must find the package from the repository.
    monkeypatch.setenv("PYTHONPATH", f"{PYTHON}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    ).execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    images = [out for out in outputs if "image/png" in out.get("data", {})]
    assert len(images) >= 3
    # Committed notebooks carry no output: it would be out of date, and large.
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs")
