"""The client and real nodes, which are killed."""

import itertools
import os
import re
import signal
import threading
import time
from pathlib import Path

import nodes
import pytest
from nodes import PATIENT

from loggos.client import (
    Change,
    Client,
    Definite,
    Delete,
    Equal,
    Error,
    Get,
    Greater,
    Held,
    Incr,
    Indefinite,
    Missing,
    Outcome,
    Put,
    Refused,
    Sql,
    Update,
    locks,
    messages,
)


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    with nodes.cluster(tmp_path_factory.mktemp("three"), 3) as system:
        yield system


@pytest.fixture
def connected(three):
    with Client(three.addresses(), PATIENT) as c:
        yield c


def test_keys(connected):
    c = connected
    c.put("a", "1")
    assert c.get("a") == b"1"
    assert c.decided.slot > 0 and c.decided.node in (1, 2, 3)
    for consistency in messages.CONSISTENCIES:
        assert c.get("a", consistency=consistency) == b"1"
    for max_age in (0, 60):
        assert c.get("a", consistency="stale", max_age=max_age) == b"1"
    c.cas("a", "1", b"\xff\x00")
    c.update("a", "tä")
    with pytest.raises(Refused) as refused:
        c.cas("a", "1", "3")
    assert (refused.value.reason, refused.value.present) == ("mismatch", "tä".encode())
    with pytest.raises(Refused, match="exists already"):
        c.create("a", "v")
    with pytest.raises(Refused, match="no integer"):
        c.incr("a")
    c.delete("a")
    assert c.get("a") is None
    for absent in (lambda: c.delete("a"), lambda: c.update("a", "v")):
        with pytest.raises(Refused) as refused:
            absent()
        assert refused.value.reason == "not_found"


def test_scans(connected):
    c = connected
    value = b"v" * 300_000
    for at in range(9):
        c.put(f"scan/{at}", value)
    # Over several pages: a reply has about a mebibyte.
    assert list(c.scan("scan/")) == [(b"scan/%d" % at, value) for at in range(9)]
    assert [key for key, _ in c.scan("scan/", limit=5)] == [b"scan/%d" % at for at in range(5)]
    assert [key for key, _ in c.scan(start="scan/7", end="scan/8")] == [b"scan/7"]
    assert list(c.scan("scan/", limit=0)) == []
    # All of one moment, though more is written between the pages.
    pages = c.scan("scan/")
    first = next(pages)
    c.put("scan/8", "after")
    c.put("scan/9", "after")
    assert [first, *pages] == [(b"scan/%d" % at, value) for at in range(9)]
    c.put("scan/8", value)
    c.delete("scan/9")


def test_sql(connected):
    c = connected
    c.sql("CREATE TABLE t (id INTEGER PRIMARY KEY, x)")
    values = [None, -(2**63), 2.5, "tä\0", b"\x00\xff"]
    rows = c.sql("INSERT INTO t (x) VALUES (?), (?), (?), (?), (?) RETURNING x", *values)
    assert (rows.columns, [x for (x,) in rows]) == (["x"], values)
    assert (rows.changes, rows.last_row_id) == (5, 5)
    assert c.query("SELECT count(*) FROM t WHERE x = ?", b"\x00\xff").rows == [(1,)]
    with pytest.raises(Refused, match="UNIQUE constraint failed") as refused:
        c.sql("INSERT INTO t (id) VALUES (1)")
    assert (refused.value.reason, refused.value.step) == ("step", 0)
    with pytest.raises(Refused, match="would change") as refused:
        c.query("DELETE FROM t")
    assert refused.value.reason == "sql"


def test_large_results(connected):
    """Three times what fits one reply."""
    many = "WITH t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 12) "
    rows = connected.query(many + "SELECT n, zeroblob(1000000) FROM t")
    assert [n for n, _ in rows] == list(range(1, 13)) and len(rows.rows[11][1]) == 10**6


def test_transactions(connected):
    c = connected
    done = c.transaction(
        [Missing("tx")],
        then=[Put("tx", "1"), Get("tx"), Incr("tx", 4), Sql("SELECT ?", "x")],
        otherwise=[Delete("tx")],
    )
    assert done.held and done.steps[:3] == [None, b"1", 5] and done.steps[3].rows == [("x",)]
    with pytest.raises(Refused) as refused:
        c.transaction([Equal("tx", "5")], [Delete("tx"), Update("tx", "v")])
    assert refused.value.step == 1
    assert c.get("tx") == b"5", "nothing of it was done"
    assert c.transaction([Greater("tx", "6")], otherwise=[Get("tx")]) == Outcome(False, [b"5"])


def test_status(three, connected):
    told = connected.status()
    assert told.node in told.members and len(told.peers) == 2
    by_binary = three.status()[told.node]
    assert (told.pid, told.version) == (by_binary["pid"], by_binary["version"])


def test_times_to_live(connected):
    connected.put("ttl", "v", ttl=0.2)
    deadline = time.monotonic() + PATIENT
    while connected.get("ttl") is not None and time.monotonic() < deadline:
        # Time of the log: it goes on with what is written.
        connected.put("other", "v")
    assert connected.get("ttl") is None


def test_locks(connected):
    c = connected
    token = c.lock("lock", "me", ttl=60)
    with pytest.raises(Refused, match="held by b'me'") as refused:
        c.lock("lock", "you", ttl=60)
    assert refused.value.present == b"me"
    c.renew("lock", token, ttl=60)
    assert c.transaction([Held("lock", token)], [Put("guarded", "v")]).held
    assert not c.transaction([Held("lock", token + 1)], [Put("guarded", "w")]).held
    c.unlock("lock", token)
    for late in (lambda: c.unlock("lock", token), lambda: c.renew("lock", token, ttl=1)):
        with pytest.raises(Refused) as refused:
            late()
        assert refused.value.reason == "not_held"
    with locks.hold(c, "lock", "you", ttl=1.5) as holding:
        assert token < holding.token
        # Two seconds of the log's time: longer than the lock is held without being renewed.
        c.put("clock", "v", ttl=2)
        nodes.wait(lambda: c.get("clock") is None)
        assert not holding.lost.is_set()
        with pytest.raises(Refused):
            c.lock("lock", "me", ttl=60)
    c.unlock("lock", c.lock("lock", "me", ttl=60))


def test_increments_survive_the_leader_and_happen_once(tmp_path):
    """The leader is killed in the middle, and comes back, and then the node that the client talks
    to: each increment is there, and once."""
    with nodes.cluster(tmp_path, 3) as system:
        sums, enough = [], threading.Event()
        counter = Client(system.addresses(), PATIENT)

        def count():
            while not enough.is_set():
                sums.append(counter.incr("n"))

        def fifty_more():
            aim = len(sums) + 50
            nodes.wait(lambda: len(sums) > aim)

        thread = threading.Thread(target=count)
        thread.start()
        try:
            for choose in (system.leading, lambda: system.nodes[counter.decided.node - 1]):
                fifty_more()
                chosen = choose()
                system.kill_node(chosen)
                fifty_more()
                system.start_node(chosen)
                nodes.wait(lambda: len(system.status()) == 3)
        finally:
            enough.set()
            thread.join(PATIENT)
        assert sums == list(range(1, len(sums) + 1))
        assert counter.get("n") == b"%d" % len(sums)
        counter.close()


def test_a_watch_survives_the_leader_and_misses_nothing(tmp_path):
    """Each number once and in order, while the client counts on beside it."""
    count = 600
    with nodes.cluster(tmp_path, 3) as system, Client(system.addresses(), PATIENT) as c:
        with c.watch("count") as watcher:
            adder = threading.Thread(
                target=lambda: [(c.incr("count"), c.incr("other")) for _ in range(count)]
            )
            adder.start()
            slots = []
            for change in watcher:
                slots.append(change.slot)
                assert (change.key, change.value) == (b"count", b"%d" % len(slots))
                if len(slots) in (count // 4, count // 2):
                    leader = system.leading()
                    system.kill_node(leader)
                    system.start_node(leader)
                if len(slots) == count:
                    break
            adder.join(PATIENT)
            assert slots == sorted(slots)
            assert watcher.wait(0.1) is None, "and no more"
            c.delete("count")
            gone = next(watcher)
            assert gone == Change(c.decided.slot, b"count", None)
        # Again, from the middle, and from where it ends.
        with c.watch("count", start=slots[-3]) as watcher:
            assert [it.value for it in itertools.islice(watcher, 4)] == [
                b"%d" % (count - 2), b"%d" % (count - 1), b"%d" % count, None,
            ]  # fmt: skip


def test_a_watch_leaves_a_node_that_stands_still(tmp_path):
    with nodes.cluster(tmp_path, 3) as system, Client(system.addresses(), PATIENT) as c:
        watcher = c.watch("k")
        c.put("k", "1")
        assert next(watcher).value == b"1"
        at = system.nodes[watcher._caller.connection(time.monotonic() + PATIENT).node - 1]
        os.kill(at.pid, signal.SIGSTOP)
        try:
            c.put("k", "2")
            assert next(watcher).value == b"2"
        finally:
            os.kill(at.pid, signal.SIGCONT)


def test_without_a_quorum_a_command_is_open_and_a_stale_read_is_not(tmp_path):
    with nodes.cluster(tmp_path, 3) as system:
        with Client(system.addresses(), PATIENT) as c:
            c.put("k", "v")
        last = system.nodes[0]
        for node in system.nodes[1:]:
            system.kill_node(node)
        with Client(last.address, timeout=1) as c:
            with pytest.raises(Error) as failed:
                c.put("k", "w")
            assert isinstance(failed.value, Definite | Indefinite)
            assert c.get("k", consistency="stale") in (b"v", None)
            with pytest.raises(Definite):
                c.get("k")


# What the documentation shows.


def test_the_example_of_the_documentation_runs(three, monkeypatch, capsys):
    text = (Path(__file__).resolve().parents[2] / "docs" / "python.md").read_text()
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)
    shown = re.search(r"```text\n(.*?)```", text, re.DOTALL).group(1)
    monkeypatch.setenv("LOGGOS_NODES", three.addresses())
    exec(compile(code, "python.md", "exec"), {})
    assert capsys.readouterr().out == shown
