"""Links that delay and lose: the shaper on real packets between two namespaces, and what both ways
of shaping are told."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "mininet"))

import roundtrips
import shaping
from shaping import Place, Shape


def lacking():
    """Why the shaper can't be tried here."""
    if os.geteuid() != 0:
        return "namespaces of the network need root"
    if not shaping.SHAPER.exists():
        return "no shaper: scripts/build.sh shaper"
    absent = [it for it in ("iptables", "nsenter", "ping", "ip") if not shutil.which(it)]
    return f"not installed: {', '.join(absent)}" if absent else None


# `make test` has seen to all of it, and wants to know if something is lacking all the same.
skipped = lacking() is not None and "LOGGOS_TEST_SHAPER" not in os.environ
real = pytest.mark.skipif(skipped, reason=str(lacking()))


@pytest.fixture
def places():
    """Two hosts with a link between them, as Mininet makes them but for the switch."""
    # Each says a word once it is in a network of its own.
    command = ["unshare", "--net", "sh", "-c", "echo here; exec sleep 120"]
    hosts = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for host in hosts:
            assert host.stdout.readline() == b"here\n"
        a, b = hosts
        inside(a, f"ip link add eth0 type veth peer name eth0 netns {b.pid}")
        for number, host in enumerate(hosts, 1):
            inside(host, f"ip addr add 10.0.0.{number}/24 dev eth0")
            inside(host, "ip link set eth0 up")
        yield {
            name: Place(f"10.0.0.{number}", host.pid, "eth0")
            for number, (name, host) in enumerate(zip("ab", hosts, strict=True), 1)
        }
    finally:
        for host in hosts:
            host.kill()
            host.communicate()


def inside(host, command):
    subprocess.run(["nsenter", "-t", str(host.pid), "-n", *command.split()], check=True)


@pytest.fixture
def shaper(places):
    one = shaping.Shaper(places, seed=1)
    yield one
    one.process.kill()
    one.process.wait()


def near(times, asked_ms):
    """Whether enough round trips are as asked; a busy machine makes some of them longer."""
    assert len(times) == roundtrips.PINGS
    assert min(times) >= asked_ms - 0.1
    return sum(time_ms < asked_ms + 2 for time_ms in times) >= roundtrips.RIGHT


@real
def test_a_delay_is_of_one_direction_and_can_be_changed(places, shaper):
    pair = ("a", "b")
    for delay_ms in (0, 30, 0.5):
        shaper.set({pair: Shape(delay_ms)})
        assert near(roundtrips.ping(places, [pair])[pair], delay_ms)
    shaper.set({pair: Shape(20), ("b", "a"): Shape(15)})
    assert near(roundtrips.ping(places, [pair])[pair], 35)


@real
def test_loss_is_of_one_direction_and_counted(places, shaper):
    shaper.set({("b", "a"): Shape(loss_percent=100)})
    assert roundtrips.ping(places, [("a", "b")])["a", "b"] == []
    of = {(link["from"], link["to"]): link for link in shaper.report()["links"]}
    there, back = of["10.0.0.1", "10.0.0.2"], of["10.0.0.2", "10.0.0.1"]
    assert (there["packets"], there["lost"]) == (roundtrips.PINGS, 0)
    assert (back["packets"], back["lost"]) == (roundtrips.PINGS, roundtrips.PINGS)


def arrived(places, seed):
    """Which of a hundred pings come back through a link that loses half."""
    shaper = shaping.Shaper(places, seed)
    try:
        shaper.set({("a", "b"): Shape(loss_percent=50)})
        ping = ["ping", "-c", "100", "-i", "0.002", "-W", "1", "10.0.0.2"]
        command = ["nsenter", "-t", str(places["a"].pid), "-n", *ping]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        return [int(number) for number in re.findall(r"icmp_seq=(\d+)", said)]
    finally:
        shaper.process.kill()
        shaper.process.wait()


@real
def test_the_seed_decides_which_packets_are_lost(places):
    first = arrived(places, 7)
    assert 30 < len(first) < 70
    # The rules of the first shaper would lead each packet into the queue twice.
    for place in places.values():
        command = ["nsenter", "-t", str(place.pid), "-n", "iptables", "-t", "mangle", "-F"]
        subprocess.run(command, check=True)
    assert arrived(places, 7) == first


@real
def test_nothing_passes_when_the_shaper_has_died_and_it_is_said(places, shaper):
    shaper.set({})
    assert near(roundtrips.ping(places, [("a", "b")])["a", "b"], 0)
    shaper.process.kill()
    with pytest.raises(RuntimeError, match="the shaper ended with -9"):
        shaper.report()
    assert roundtrips.ping(places, [("a", "b")])["a", "b"] == []


@real
def test_the_shaper_ends_with_whoever_speaks_to_it(shaper):
    shaper.process.stdin.close()
    assert shaper.process.wait(timeout=5) == 0


@real
def test_what_the_shaper_cannot_do_is_refused_and_changes_nothing(places, shaper):
    assert "there is no link from 10.0.0.1 to 10.0.0.9" in shaper._ask("shape 10.0.0.1 10.0.0.9")
    assert "allowed is" in shaper._ask("shape 10.0.0.1 10.0.0.2 delay_us=99000000")
    assert near(roundtrips.ping(places, [("a", "b")])["a", "b"], 0)


@real
def test_a_link_that_is_not_as_asked_for_is_found_out(places, shaper):
    asked = {("a", "b"): Shape(10), ("b", "a"): Shape(10)}
    shaper.set(asked)
    found = roundtrips.measure(places, asked)
    assert found["a-b"]["asked_ms"] == 20
    assert found["a-b"]["measured_ms"] >= 20
    shaper.set({("a", "b"): Shape(10)})
    with pytest.raises(RuntimeError, match=r"a-b takes 1\d.* ms, asked for was 20 ms"):
        roundtrips.measure(places, asked)


@real
@pytest.mark.skipif(not shaping.have_netem(), reason="this kernel has no netem")
def test_netem_delays_one_direction_and_can_be_changed(places):
    netem, pair = shaping.Netem(places), ("a", "b")
    for delay_ms in (0, 30, 0.5):
        netem.set({pair: Shape(delay_ms)})
        assert near(roundtrips.ping(places, [pair])[pair], delay_ms)


@real
def test_netem_has_a_class_for_each_destination(places, monkeypatch):
    """On any kernel: all that is said to tc but for netem itself, a plain queue in its place."""
    say = shaping.Netem._tc
    plain = staticmethod(lambda at, lines: say(at, [it.replace("netem", "pfifo") for it in lines]))
    monkeypatch.setattr(shaping.Netem, "_tc", plain)
    monkeypatch.setattr(shaping, "netem_words", lambda shape: f"limit {100 + shape.delay_ms}")
    netem = shaping.Netem(places)
    netem.set({})
    netem.set({("a", "b"): Shape(5)})
    assert near(roundtrips.ping(places, [("a", "b")])["a", "b"], 0)
    report = {name: {it["kind"]: it for it in qdiscs} for name, qdiscs in netem.report().items()}
    assert report["a"]["pfifo"]["options"]["limit"] == 105
    assert report["b"]["pfifo"]["options"]["limit"] == 100
    # They go through the class of their destination, none beside it.
    assert report["a"]["pfifo"]["packets"] == roundtrips.PINGS


def test_a_shape_that_is_none_is_refused():
    for wrong in (
        {"delay_ms": 1, "jitter_ms": 2},
        {"loss_percent": 101},
        {"delay_ms": -1},
        {"reorder_percent": 5},
    ):
        with pytest.raises(ValueError, match="Shape"):
            Shape(**wrong)


def test_netem_is_told_the_same():
    words = shaping.netem_words
    assert words(Shape(1.5)) == "limit 16384 delay 1500us"
    lossy = Shape(20, 5, 0.1)
    assert words(lossy) == "limit 16384 delay 20000us 5000us loss random 0.1% rate 100gbit"
    # A rate would put in order again what shall not be.
    assert words(Shape(20, 5, 0, 25)) == "limit 16384 delay 20000us 5000us reorder 25%"


def test_uniform_is_all_ordered_pairs():
    found = shaping.uniform(["n1", "n2", "n3"], Shape(5))
    assert len(found) == 6
    assert found["n3", "n1"] == Shape(5)
