"""What is made of the lines of libpaxos's client, which this repository does not have."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "mininet"))

from systems import libpaxos
from systems.known import SYSTEMS

PRINTED = """Connected to proposer
3 value/sec, 0.01 Mbps, latency min 10 us max 900 us avg 300 us
100 value/sec, 0.22 Mbps, latency min 50 us max 400 us avg 100 us
300 value/sec, 0.66 Mbps, latency min 40 us max 500 us avg 200 us
Caught signal 2
"""
LOAD = {"warmup_s": 1, "rate": None, "clients": 1, "in_flight": 4}


def test_the_warm_up_does_not_count_and_means_are_weighted():
    report = libpaxos.report_of(PRINTED, LOAD)
    assert report["throughput"] == 200
    assert report["writes"]["ok"] == 400
    assert report["writes"]["latency_us"] == {"mean": 175, "min": 40, "max": 500}
    assert report["parameters"] == {"rate": None, "clients": 1, "in_flight": 4}


def test_a_client_that_got_nothing_is_an_error():
    with pytest.raises(RuntimeError, match="delivered nothing"):
        libpaxos.report_of("Connection refused\n", LOAD)


@pytest.mark.parametrize("place", ["sample", "bin", "."])
def test_what_is_missing_is_said(tmp_path, monkeypatch, place):
    adapter = SYSTEMS["libpaxos"]
    monkeypatch.setenv("LIBPAXOS_DIR", str(tmp_path))
    assert "has no replica and no client" in adapter.missing(None)
    (tmp_path / place).mkdir(exist_ok=True)
    for name in libpaxos.PROGRAMS:
        program = tmp_path / place / name
        program.touch()
        assert "has no" in adapter.missing(None)
        program.chmod(0o755)
    assert adapter.missing(None) is None
    assert libpaxos.program("client") == tmp_path / place / "client"
