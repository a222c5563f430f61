"""The client's bytes, and what it refuses before it sends anything."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from loggos.client import (
    Cas,
    Client,
    Create,
    Delete,
    DeleteImage,
    Equal,
    Get,
    Greater,
    Held,
    Incr,
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
    messages,
    replies,
    wire,
)
from loggos.client.commands import Scan, Transaction, encode_command, encode_query
from loggos.client.errors import Nonsense
from loggos.client.messages import Kind

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "data" / "client-bytes.txt"


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
