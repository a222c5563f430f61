"""Every system under test, started, loaded and ended once on emulated hosts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nodes
import pytest

from loggos import analyse

sys.path.append(str(Path(__file__).resolve().parents[2] / "mininet"))

from systems.known import SYSTEMS

# Where Mininet is: it belongs to the system's Python.
PYTHON = "/usr/bin/python3"
RUN = nodes.REPOSITORY / "mininet" / "run.py"


def fails(*command):
    return subprocess.run(command, capture_output=True, check=False).returncode != 0


def needs_a_laboratory(adapter):
    """Skips a test where hosts can't be emulated, or the system is not installed."""
    if os.geteuid() != 0:
        pytest.skip("emulated hosts need root")
    if fails(PYTHON, "-c", "import mininet.net"):
        pytest.skip("Mininet is not installed: `scripts/setup.sh mininet` installs it")
    if fails("unshare", "--net", "true"):
        pytest.skip("network namespaces are not permitted here")
    missing = adapter.missing(nodes.BINARY)
    if missing:
        pytest.skip(missing)


@pytest.mark.parametrize("name", [it.name for it in SYSTEMS.values() if not it.split])
def test_a_system_is_started_loaded_and_ended(name, tmp_path):
    """A command line that a server does not know, a leader that is not found, a report that the
    analysis can't read: each of them ends here."""
    needs_a_laboratory(SYSTEMS[name])
    command = [
        PYTHON, str(RUN), "--experiment", "smoke-systems", "--systems", name,
        "--binary", str(nodes.BINARY), "--results", str(tmp_path), "--run-id", "one",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "smoke-systems" / "one"
    cell = run / "cells" / f"01-{name}"
    marker = json.loads((cell / "cell.json").read_text())
    servers = [it for it in marker["commands"] if it["host"].startswith("n")]
    assert len(servers) == SYSTEMS[name].hosts(3)
    (report,) = [json.loads(path.read_text()) for path in cell.glob("bench-*.json")]
    assert report["writes"]["ok"] > 0
    assert report["writes"]["unknown"] == 0
    environment = json.loads((run / "environment.json").read_text())
    assert "unknown" not in environment["systems"][name]["version"]
    assert analyse.main([str(run)]) == 0
    # The same id again: all is done already.
    again = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    assert json.loads((cell / "cell.json").read_text()) == marker
