"""Real nodes for tests: a cluster of the built binary on loopback, each node ended by its id."""

import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from loggos.bench.processes import Children, wait_for
from loggos.bench.systems.base import Place
from loggos.bench.systems.loggos import Loggos

REPOSITORY = Path(__file__).resolve().parents[2]
# Seconds that a client of a test waits for what must come.
PATIENT = 20.0
BINARY = Path(os.environ.get("LOGGOS_BINARY", REPOSITORY / "target" / "release" / "loggos"))


def needs_binary():
    """Skips a test where there is no binary to test with."""
    if not BINARY.is_file():
        pytest.skip(f"{BINARY} does not exist: `make build` makes it")


@contextmanager
def cluster(folder: Path, count: int):
    """So many nodes, which agree who leads, for as long as the context is open."""
    needs_binary()
    children = Children()
    place = Place(folder, BINARY, BINARY, children, duration_s=1, warmup_s=0)
    try:
        with Loggos(place, nodes=count) as system:
            yield system
    finally:
        children.kill_all()


def wait(is_so) -> None:
    """Until something holds, as it does soon unless a test has failed."""
    wait_for("it did not come about", is_so, timeout_s=30, pause_s=0.01)
