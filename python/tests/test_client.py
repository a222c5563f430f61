"""The client against fake nodes: every way in which an answer gets lost."""

import itertools
import multiprocessing
import socket
import threading
import time

import nodes
import pytest
from fake import COMMAND, LOSE_REPLY, READ_ON, SILENCE, WATCH, Fake, error, first_commands
from nodes import PATIENT

from loggos.client import (
    Change,
    Client,
    Decided,
    Definite,
    Get,
    Incr,
    Indefinite,
    Refused,
    client,
    locks,
    replies,
    watch,
)
from loggos.client.messages import Kind

HASTY = 0.3


# Answers that get lost, against fake nodes: `src/client/tests.rs`.


def test_requests_are_answered():
    it = Fake(1)
    with Client(it.addresses, PATIENT) as c:
        assert [c.incr("n"), c.incr("n", 4)] == [1, 5]
        assert c.decided == Decided(slot=7, ballot="3.1", node=1)
        assert c.get("n") == b"5" and c.get("m") is None
    # Each command acknowledges all before it, and no more.
    assert it.acknowledged == [1, 2]


def test_a_retry_is_the_same_command():
    """A lost reply must not become a second execution."""
    it = Fake(3, first_commands(2, LOSE_REPLY))
    c = Client(it.addresses, PATIENT)
    assert [c.incr("n"), c.incr("n")] == [1, 2]
    assert it.sessions == 1


def test_a_silent_node_is_left_for_the_next():
    it = Fake(2, lambda node, _: SILENCE if node == 1 else None)
    c = Client(it.addresses, 2.0)
    assert c.incr("n") == 1
    assert c.decided.node == 2


def test_nobody_there_is_definite():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(Definite, match=r"connection refused.*certainly did not happen"):
        Client([f"127.0.0.1:{port}"], HASTY).incr("n")


def test_silence_after_sending_is_indefinite():
    it = Fake(1, first_commands(10**6, SILENCE))
    with pytest.raises(Indefinite, match="may or may not"):
        Client(it.addresses, HASTY).incr("n")
    # A read that nobody answers certainly changed nothing.
    it = Fake(1, lambda *_: SILENCE)
    with pytest.raises(Definite, match="no answer in time"):
        Client(it.addresses, HASTY).get("n", consistency="stale")


def test_after_an_open_outcome_nothing_of_its_session_is_acknowledged():
    """The cluster may still carry the command out, and answer a later copy of it."""
    it = Fake(1, first_commands(10**6, SILENCE))
    c = Client(it.addresses, HASTY)
    with pytest.raises(Indefinite):
        c.incr("n")
    it.plan = lambda *_: None
    assert c.incr("n") == 1
    assert (it.sessions, it.acknowledged) == (2, [1])


def test_a_later_refusal_does_not_make_an_earlier_attempt_definite():
    faults = itertools.chain([LOSE_REPLY], itertools.repeat(error(Kind.BAD_REQUEST)))
    it = Fake(1, lambda _, kind: next(faults) if kind == COMMAND else None)
    with pytest.raises(Indefinite):
        Client(it.addresses, PATIENT).incr("n")


def test_a_bad_request_is_not_tried_again():
    it = Fake(1, first_commands(1, error(Kind.BAD_REQUEST)))
    with pytest.raises(Definite, match="no way"):
        Client(it.addresses, PATIENT).incr("n")


def test_an_expired_session_is_replaced_only_when_that_is_safe():
    expired = error(Kind.SESSION_EXPIRED)
    it = Fake(1, first_commands(1, expired))
    assert Client(it.addresses, PATIENT).incr("n") == 1
    assert it.sessions == 2

    faults = itertools.chain([LOSE_REPLY], itertools.repeat(expired))
    it = Fake(1, lambda _, kind: next(faults) if kind == COMMAND else None)
    with pytest.raises(Indefinite, match="session expired"):
        Client(it.addresses, PATIENT).incr("n")


def test_a_session_that_was_idle_for_long_is_left(monkeypatch):
    """The cluster has forgotten it after a day, and could not say what became of the command."""
    it, now = Fake(1), [0.0]
    monkeypatch.setattr(client, "_idle_clock", lambda: now[0])
    c = Client(it.addresses, PATIENT)
    c.incr("n")
    now[0] += client.SESSION_IDLE_S_MAX
    c.incr("n")
    assert it.sessions == 1
    now[0] += client.SESSION_IDLE_S_MAX + 1
    assert c.incr("n") == 3
    assert it.sessions == 2


def test_ask_is_followed():
    """Also to a node that came to the cluster after we were told who is in it."""
    it = Fake(3)
    late = it.listen(4)
    host, port = client.address(late)
    asked = error(Kind.NOT_A_REPLICA, ask=4, ask_at=(host, port))
    it.plan = lambda node, kind: asked if kind == COMMAND and node != 4 else None
    c = Client(it.addresses, PATIENT)
    assert c.incr("n") == 1
    assert c.decided.node == 4


def test_busy_is_tried_again():
    it = Fake(1, first_commands(3, error(Kind.BUSY)))
    assert Client(it.addresses, PATIENT).incr("n") == 1


def test_a_damaged_reply_tells_how_much_is_known():
    it = Fake(1)
    c = Client(it.addresses, PATIENT)
    with pytest.raises(Indefinite, match="does not fit"):
        c._expect(replies.Done, Incr("n"))
    with pytest.raises(Definite, match="does not fit"):
        c._ask(replies.Rows, Get("n"), "stale")


def test_large_results_come_in_parts():
    """They may get lost in the middle: then all of it is read anew, for another node has another
    state."""
    it = Fake(2)
    it.rows = list(range(7))
    c = Client(it.addresses, PATIENT)
    assert [n for (n,) in c.query("SELECT n FROM t")] == it.rows
    for lost in (1, 2, 3):
        left = [lost]

        def lose(_: int, kind: int, left=left) -> object:
            left[0] -= kind == READ_ON
            return LOSE_REPLY if kind == READ_ON and left[0] == 0 else None

        it.plan = lose
        assert c.query("SELECT n FROM t").rows == [(n,) for n in it.rows]
    it.plan = lambda _, kind: LOSE_REPLY if kind == READ_ON else None
    with pytest.raises(Definite, match="again and again"):
        Client(it.addresses, HASTY).query("SELECT n FROM t")


def test_a_node_that_is_none_is_left(tmp_path):
    """Another program answers on that port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def greet():
        stream, _ = listener.accept()
        stream.sendall(b"220 mail.example.org\r\n")
        stream.recv(4096)

    threading.Thread(target=greet, daemon=True).start()
    it = Fake(1)
    wrong = f"127.0.0.1:{listener.getsockname()[1]}"
    c = Client([wrong, *it.addresses], PATIENT)
    assert c.incr("n") == 1


def test_an_interrupt_leaves_the_session_and_the_connection(monkeypatch):
    """Ctrl-C in a notebook: what was under way must not be mistaken for what comes after."""
    it = Fake(1)
    c = Client(it.addresses, PATIENT)
    c.incr("n")
    receive = client.Caller._attempt

    def interrupted(self, request, bulk, until):
        receive(self, request, bulk, until)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(client.Caller, "_attempt", interrupted)
        with pytest.raises(KeyboardInterrupt):
            c.incr("n")
    assert c.incr("n") == 3
    assert it.sessions == 2


def _incr_in_a_fork(c: Client, out) -> None:
    out.put(c.incr("n"))


def test_a_forked_process_has_a_session_of_its_own():
    """Two commands of one number would be taken for one, and an increment would be lost."""
    it = Fake(1)
    c = Client(it.addresses, PATIENT)
    c.incr("n")
    context = multiprocessing.get_context("fork")
    out = context.Queue()
    child = context.Process(target=_incr_in_a_fork, args=(c, out))
    child.start()
    assert c.incr("n") + out.get(timeout=PATIENT) == 5
    child.join(PATIENT)
    assert it.keys[b"n"] == 3


def test_threads_share_a_client():
    it = Fake(2)
    c = Client(it.addresses, PATIENT)
    threads = [threading.Thread(target=lambda: [c.incr("n") for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert c.get("n") == b"200"


def change(slot: int) -> Change:
    return Change(slot, b"k", b"%d" % slot)


def test_a_watch_goes_on_at_another_node_from_where_it_was(monkeypatch):
    """Each of them falls silent after two changes."""
    monkeypatch.setattr(watch, "SILENCE_S_MAX", 0.2)
    it = Fake(3)
    it.changes = [(slot, b"k", b"%d" % slot) for slot in range(1, 10)]
    it.changes.insert(4, (4, b"other", b""))
    with Client(it.addresses, PATIENT).watch("k", start=2) as watcher:
        assert list(itertools.islice(watcher, 3)) == [change(2), change(3), change(4)]
        assert watcher.position == 5
        assert list(itertools.islice(watcher, 5)) == [change(slot) for slot in range(5, 10)]
        assert watcher.position == 10
        assert watcher.wait(0.5) is None
    # From the end of the state that a read shows.
    with Client(it.addresses, PATIENT).watch("k") as watcher:
        assert next(watcher) == change(8)


def test_a_silent_node_is_left_also_by_who_looks_in_for_a_moment(monkeypatch):
    monkeypatch.setattr(watch, "SILENCE_S_MAX", 0.3)
    it = Fake(2, lambda node, kind: SILENCE if (node, kind) == (1, WATCH) else None)
    it.changes = [(1, b"k", b"1")]
    watcher = Client(it.addresses, PATIENT).watch("k", start=1)
    began, found = time.monotonic(), None
    while found is None and time.monotonic() < began + PATIENT:
        found = watcher.wait(0.01)
    assert found == change(1)
    assert time.monotonic() - began > 0.3, "it is not left at once"
    # Time in which nobody waits is not the node's silence.
    it.changes.append((2, b"k", b"2"))
    watcher.close()
    it.plan = lambda node, _: None if node == 2 else error(Kind.BUSY)
    assert watcher.wait(0.2) == change(2)
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + 0.4)
    it.plan = lambda *_: error(Kind.BUSY)
    assert watcher.wait(0.05) is None
    assert watcher._request is not None, "the node was not left"


def test_what_no_node_knows_any_more_is_told():
    too_old = error(Kind.TOO_OLD)
    it = Fake(3, lambda node, _: too_old if node != 3 else None)
    it.changes = [(1, b"k", b"1")]
    assert next(Client(it.addresses, PATIENT).watch("k", start=1)) == change(1)
    it.plan = lambda *_: too_old
    with pytest.raises(Definite, match="no way"):
        next(Client(it.addresses, PATIENT).watch("k", start=1))


def test_a_watch_leaves_its_client_free(monkeypatch):
    it = Fake(1)
    c = Client(it.addresses, PATIENT)
    watcher = c.watch("k", start=1)
    assert watcher.wait(0.05) is None
    assert c.incr("k") == 1
    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", interrupt)
        watcher.wait(1)
    it.changes = [(1, b"k", b"1")]
    assert next(watcher) == change(1)


def interrupt():
    raise KeyboardInterrupt


class Locks:
    """A client that knows one lock, whose renewals fail as they are told to."""

    def __init__(self, *renewals: Exception | None):
        self.calls: list[str] = []
        self.renewals = list(renewals)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def another(self, timeout):
        return self

    def lock(self, key, value, ttl):
        self.calls.append("lock")
        return 7

    def renew(self, key, token, ttl):
        self.calls.append(f"renew {token}")
        if self.renewals and (error := self.renewals.pop(0)):
            raise error

    def unlock(self, key, token):
        self.calls.append(f"unlock {token}")
        raise Refused("it is somebody else's", "not_held")


def test_a_lock_is_renewed_until_the_block_ends():
    """A renewal that fails is tried again while there is time."""
    it = Locks(None, Definite("nobody there"), None)
    with locks.hold(it, "k", "me", ttl=1) as holding:
        nodes.wait(lambda: len(it.calls) > 4)
        assert not holding.lost.is_set()
    assert it.calls[:3] == ["lock", "renew 7", "renew 7"]
    assert it.calls[-1] == "unlock 7"


def test_a_lost_lock_is_told():
    it = Locks(None, Refused("not held", "not_held"))
    with locks.hold(it, "k", "me", ttl=0.03) as holding:
        assert holding.lost.wait(PATIENT)
    it = Locks(*[Definite("nobody there")] * 1000)
    with locks.hold(it, "k", "me", ttl=0.03) as holding:
        assert holding.lost.wait(PATIENT)
    assert it.calls[-1] == "unlock 7"
