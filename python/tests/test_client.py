"""The client: its bytes, every way in which an answer gets lost, and real nodes that are killed."""

import contextlib
import itertools
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import nodes
import pytest
from fake import COMMAND, LOSE_REPLY, READ_ON, SILENCE, WATCH, Fake, error, first_commands

from loggos.client import (
    Cas,
    Change,
    Client,
    Create,
    Decided,
    Definite,
    Delete,
    DeleteImage,
    Equal,
    Error,
    Get,
    Greater,
    Held,
    Incr,
    Indefinite,
    Less,
    Lock,
    Missing,
    Nearest,
    NotEqual,
    Outcome,
    Present,
    Put,
    PutFor,
    Refused,
    Renew,
    SetImage,
    Sql,
    Unlock,
    Update,
    client,
    commands,
    locks,
    messages,
    replies,
    watch,
    wire,
)
from loggos.client.commands import Scan, Transaction, encode_command, encode_query
from loggos.client.errors import Nonsense
from loggos.client.messages import Kind

PATIENT, HASTY = 20.0, 0.3
GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "data" / "client-bytes.txt"


# Bytes.


def test_a_frame_is_that_of_the_nodes():
    frame = wire.frame(b"\x02\x01", b"abc")
    assert frame[:12] == b"Lg\x01\x00\x02\x00\x00\x00\x03\x00\x00\x00"
    assert frame[16:] == b"\x02\x01abc"
    buffer = bytearray(frame + b"Lg")
    assert wire.take_frame(buffer) == (b"\x02\x01", b"abc")
    assert buffer == b"Lg"


def test_a_cut_frame_is_waited_for_and_a_flipped_bit_is_never_a_frame():
    frame = wire.frame(b"\x02\x01", b"abc")
    for cut in range(len(frame)):
        assert wire.take_frame(bytearray(frame[:cut])) is None
    for bit in range(len(frame) * 8):
        spoilt = bytearray(frame)
        spoilt[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(Nonsense):
            assert wire.take_frame(spoilt) is None


def test_sizes_over_a_limit_are_refused_by_the_header():
    spoilt = bytearray(wire.frame(b"", b"abc"))
    spoilt[8:12] = b"\xff" * 4
    with pytest.raises(Nonsense, match="over the limit"):
        wire.take_frame(spoilt[:16])
    with pytest.raises(Nonsense):
        wire.take_frame(bytearray(b"GET / HT"))
    with pytest.raises(ValueError, match="at most"):
        wire.frame(b"", bytes(wire.BULK_SIZE_MAX + 1))


# What the nodes' own tests hold (`tests/client_bytes.rs`), by the names that it has there.
CATALOGUE = {
    "hello": messages.hello(),
    "register": messages.Register(0x0102030405060708).head(),
    "command": messages.Command(session=9, seq=4, acknowledged=3).head(),
    **{
        f"read {name}": messages.Read(5, name).head()
        for name in ("linearizable", "leader", "lease", "quorum", "stale")
    },
    "read stale within": messages.Read(5, "stale", age_us=1_500_000).head(),
    "status": messages.AskStatus(6).head(),
    "watch": messages.Watch(7, 8).head(),
    "read on": messages.ReadOn(3, 1, 9).head(),
    "put": encode_command(Put("k", b"vw")),
    "create": encode_command(Create("k", "v")),
    "update": encode_command(Update("k", "")),
    "delete": encode_command(Delete("key")),
    "cas missing": encode_command(Cas("k", None, "v")),
    "cas": encode_command(Cas("k", "u", "v")),
    "incr": encode_command(Incr("k", -1)),
    "transaction": encode_command(
        Transaction(
            [
                Missing("a"), Present("b"), Equal("c", "1"), NotEqual("d", "2"),
                Less("e", "3"), Greater("f", "4"), Held("g", 5),
            ],
            [
                Put("k", "v"), Get("k"), Sql("SELECT ?1, ?2", 7, "x"),
                SetImage(b"h", "mn"), Nearest(b"h", 5, 9),
            ],
            [Delete("k")],
        )
    ),
    "put for": encode_command(PutFor("k", "v", 1.5)),
    "lock": encode_command(Lock("k", "v", 2)),
    "renew": encode_command(Renew("k", 5, 0.25)),
    "unlock": encode_command(Unlock("k", 5)),
    "set image": encode_command(SetImage(b"h", "mn")),
    "delete image": encode_command(DeleteImage(b"h")),
    "get": encode_query(Get("k")),
    "scan": encode_query(Scan(b"a", b"b", 100)),
    "scan open": encode_query(Scan(b"", None, 2**32 - 1)),
    "sql": encode_query(Sql("SELECT ?", None, -2, 1.5, "tä", b"\x00\xff")),
    "nearest": encode_query(Nearest(b"h", 5, 9)),
}  # fmt: skip


def golden() -> dict[str, bytes]:
    lines = [line for line in GOLDEN.read_text().splitlines() if not line.startswith("#")]
    named = (line.rsplit(": ", 1) for line in lines if line)
    return {name: bytes.fromhex(data) for name, data in named}


@pytest.mark.parametrize("name", CATALOGUE)
def test_requests_are_the_bytes_of_the_nodes(name):
    assert CATALOGUE[name] == golden()[name]


# The heads of what nodes send, and the one bulk that is no reply of the store.
RESPONSES = (
    "welcome", "refused", "registered", "reply", "read", "status reply", "error", "error v6",
    "error too old", "changes", "changes of slots",
)  # fmt: skip


def test_responses_are_read_from_the_bytes_of_the_nodes():
    found = {name: golden()[name] for name in RESPONSES}
    assert messages.welcomed(found.pop("welcome")) == 3
    with pytest.raises(Nonsense, match="refused: go  away"):
        messages.welcomed(found.pop("refused"))

    answer = messages.response(found.pop("registered"))
    assert (answer.key, answer.session) == (messages.Register(1).key(), 9)
    assert (answer.slot, answer.ballot) == (5, "2.3")
    answer = messages.response(found.pop("reply"))
    assert (answer.key, answer.slot) == (messages.Command(9, 4, 0).key(), 6)
    answer = messages.response(found.pop("read"))
    assert (answer.key, answer.ballot) == (messages.Read(5, "leader").key(), "2.3")
    answer = messages.response(found.pop("error"))
    assert answer.key == messages.Command(9, 4, 0).key()
    assert answer.error == messages.ErrorReply(
        Kind.NOT_A_REPLICA, True, 2, ("10.0.0.2", 7401), "no  way"
    )
    answer = messages.response(found.pop("changes"))
    assert (answer.key, answer.slot) == (messages.Watch(7, 0).key(), 10)
    changes = replies.changes(found.pop("changes of slots"))
    assert changes == [(8, b"a", b"12"), (8, b"b", b""), (9, b"a", None)]
    answer = messages.response(found.pop("error too old"))
    assert (answer.key, answer.error.kind) == (messages.Watch(7, 0).key(), Kind.TOO_OLD)
    answer = messages.response(found.pop("error v6"))
    assert answer.error.ask_at == ("2001:db8::1", 7401)
    assert (answer.error.kind, answer.error.definite) == (Kind.REFUSED, False)
    status = messages.response(found.pop("status reply")).status
    assert (status.node, status.version, status.leader, status.route) == (2, "9.8.7", 1, [3, 1])
    assert status.roles.replica and not status.roles.leader and status.health.disk_full
    assert status.members[3].acceptor and status.digest == "0" * 32
    peer, configuration = status.peers[0], status.configuration
    assert (peer.node, peer.hears, peer.ended) == (1, [1, 2], "closed")
    assert configuration.members[0].client_address == ("10.0.0.1", 7401)
    assert (configuration.phase2, configuration.left) == (1, [7])
    assert not found, "all of them are read here"


def test_replies_are_read_from_the_bytes_of_the_nodes():
    others = (*CATALOGUE, *RESPONSES)
    found = {name: data for name, data in golden().items() if name not in others}
    assert replies.decode(found.pop("done")) == replies.Done()
    assert replies.decode(found.pop("integer")) == replies.Integer(3)
    assert replies.decode(found.pop("value")) == replies.Found(b"v")
    assert replies.decode(found.pop("no value")) == replies.Found(None)
    entries = replies.decode(found.pop("entries"))
    assert (entries.entries, entries.next) == ([(b"a", b"1"), (b"b", b"")], b"c")
    rows = replies.decode(found.pop("rows"))
    assert (rows.columns, list(rows)) == (["a", "b"], [(None, -2), (1.5, "tä"), (b"\xff", "")])
    assert (rows.changes, rows.last_row_id) == (2, 8)
    outcome = replies.decode(found.pop("outcome"))
    image = replies.Image(3, b"h", b"mn")
    nothing = replies.Rows([], [], 1, None)
    assert outcome == Outcome(True, [None, -1, b"v", None, nothing, 5, [image]])
    images = replies.decode(found.pop("images"))
    assert images == replies.Images([replies.Image(0, b"h", b"mn"), image], more=True)
    part = replies.decode(found.pop("rows part"))
    assert (part.rows.columns, part.rows.rows, part.next) == (["n"], [(1,), (2,)], 2)
    assert replies.decode(found.pop("token")) == replies.Token(5)
    refusals = {}
    for name in [name for name in found if name.startswith("failed ")]:
        with pytest.raises(Refused) as refused:
            replies.decode(found.pop(name))
        refusals[name.removeprefix("failed ")] = refused.value
    for reason in (
        "exists",
        "not_found",
        "mismatch",
        "not_an_integer",
        "overflow",
        "invalid",
        "not_held",
    ):
        assert refusals[reason].reason == reason
    assert refusals["mismatch"].present == b"w"
    assert (refusals["step"].step, str(refusals["step"])) == (1, "bad; nothing was changed")
    assert (refusals["sql"].reason, str(refusals["sql"])) == ("sql", "bad; nothing was changed")
    assert not found, "all that the file holds is read here"


def test_times_to_live_are_positive():
    for ttl in (0, -1, 1e-9, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="time to live"):
            encode_command(PutFor("k", "v", ttl))


def test_keys_of_requests_of_one_kind_are_the_same():
    assert messages.ReadOn(3, 1, 9).key() == messages.Read(3, "leader").key()


def test_hostile_bytes_are_nonsense_and_nothing_else():
    """Cut anywhere, with a byte changed anywhere, or with a length that is a lie."""
    for data in golden().values():
        spoilt = [data[:cut] for cut in range(len(data))]
        for at in range(len(data)):
            spoilt.append(data[:at] + b"\xff" + data[at + 1 :])
            spoilt.append(data[:at] + b"\xff" * 8 + data[at + 8 :])
        for bad in spoilt:
            for read in (replies.decode, replies.changes, messages.response, messages.welcomed):
                with contextlib.suppress(Nonsense, Refused):
                    read(bad)


def test_wrong_arguments_are_told_before_anything_is_sent():
    for wrong in (
        lambda: Put("", "v"), lambda: Put("k" * 4097, "v"), lambda: Put("k", bytes(2**20 + 1)),
        lambda: Incr("k", 2**63), lambda: Unlock("k", -1),
        lambda: SetImage(bytes(129), ""), lambda: DeleteImage(b""),
        lambda: Nearest(b"h", 1025, 1), lambda: Nearest(b"h", 1, -1),
        lambda: Transaction(then=[Sql("SELECT ?", "x" * 2**21), Sql("SELECT ?", "x" * 2**20)]),
    ):  # fmt: skip
        with pytest.raises(ValueError):
            encode_command(wrong())
    for wrong in (
        Put(1, "v"),
        Put("k", None),
        SetImage("h", ""),
        Transaction(then=[Transaction()]),
    ):
        with pytest.raises(TypeError):
            encode_command(wrong)
    with pytest.raises(TypeError, match="parameter"):
        encode_query(Sql("SELECT ?", [1]))
    nobody = Client("127.0.0.1:1")
    with pytest.raises(ValueError, match="consistency"):
        nobody.get("k", consistency="eventual")
    for age in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="age"):
            nobody.get("k", consistency="stale", max_age=age)
    with pytest.raises(ValueError, match="max_age"):
        nobody.get("k", max_age=1)
    with pytest.raises(ValueError, match="slot"):
        nobody.watch("k", start=-1)
    with pytest.raises(ValueError, match="prefix"):
        nobody.scan("a", end="b")
    with pytest.raises(ValueError, match="timeout"):
        Client("127.0.0.1:1", timeout=0)


def test_numbers_of_numpy_are_parameters():
    numpy = pytest.importorskip("numpy")
    plain = Sql("SELECT ?", 3, 1.5, 1, None)
    assert encode_query(plain) == encode_query(
        Sql("SELECT ?", numpy.int64(3), numpy.float32(1.5), True, float("nan"))
    )


def test_the_end_of_a_prefix():
    assert commands.prefix_end(b"ab") == b"ac"
    assert commands.prefix_end(b"a\xff\xff") == b"b"
    assert commands.prefix_end(b"\xff") is None
    assert commands.prefix_end(b"") is None


def test_addresses(monkeypatch):
    assert client.addresses("127.0.0.1:1, [::1]:2,") == [("127.0.0.1", 1), ("::1", 2)]
    for wrong in ("", ",", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999", ":1"):
        with pytest.raises(ValueError):
            client.addresses(wrong)
    monkeypatch.setenv("LOGGOS_NODES", "10.0.0.1:5")
    assert client.addresses(None) == [("10.0.0.1", 5)]


def test_the_client_needs_nothing_but_the_standard_library():
    code = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("numpy", "PIL", "imagehash", "pandas", "scipy", "matplotlib"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import loggos.client, loggos.client.images
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


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
    time.sleep(0.4)
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


# Real nodes.


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
