"""What clients and nodes say to each other: `src/wire/hello.rs` and `src/wire/client.rs`, as far as
a client of the store needs them."""

from dataclasses import dataclass
from enum import IntEnum

from loggos.client.errors import Nonsense
from loggos.client.status import Status, address, ballot, status
from loggos.client.wire import Reader, Writer

PROTOCOL_VERSION = 1
# In the order of `src/wire/client.rs`.
CONSISTENCIES = ("linearizable", "leader", "lease", "quorum", "stale")
STALE_WITHIN = len(CONSISTENCIES)


class Kind(IntEnum):
    """Why a request was not served (`ErrorKind`)."""

    TIMEOUT = 0
    SESSION_EXPIRED = 1
    BAD_REQUEST = 2
    BUSY = 3
    NOT_A_REPLICA = 4
    STOPPING = 5
    DISK_FULL = 6
    NOT_LEADING = 7
    REFUSED = 8
    TOO_OLD = 9


# Sent again, or elsewhere, the request would fare no better.
HOPELESS = (Kind.BAD_REQUEST, Kind.DISK_FULL, Kind.REFUSED, Kind.TOO_OLD)


@dataclass(frozen=True)
class Register:
    """Asks for a session; the random nonce comes back in the reply."""

    nonce: int

    def key(self) -> bytes:
        """What tells which request a response answers (`RequestKey`)."""
        return Writer().variant(0).u64(self.nonce).done()

    head = key


@dataclass(frozen=True)
class Command:
    """A command of a session; the bulk says which. All below `acknowledged` are answered."""

    session: int
    seq: int
    acknowledged: int

    def key(self) -> bytes:
        """As of all requests."""
        return Writer().variant(1).u64(self.session).u64(self.seq).done()

    def head(self) -> bytes:
        """Its bytes."""
        return self.key() + Writer().u64(self.acknowledged).done()


@dataclass(frozen=True)
class Read:
    """A query; the bulk says which. The id is the client's own."""

    id: int
    consistency: str
    # Of stale ones: all that was acknowledged so many microseconds ago is in them.
    age_us: int | None = None

    def key(self) -> bytes:
        """As of all requests."""
        return Writer().variant(2).u64(self.id).done()

    def head(self) -> bytes:
        """Its bytes."""
        if self.age_us is not None:
            return self.key() + Writer().variant(STALE_WITHIN).u64(self.age_us).done()
        return self.key() + Writer().variant(CONSISTENCIES.index(self.consistency)).done()


@dataclass(frozen=True)
class AskStatus:
    """Asks a node what it knows of itself and its cluster."""

    id: int

    def key(self) -> bytes:
        """As of all requests."""
        return Writer().variant(3).u64(self.id).done()

    head = key


@dataclass(frozen=True)
class ReadOn:
    """Goes on with read `of` of this connection, whose rows did not fit one reply: those from
    `skip` on, of the same state."""

    id: int
    of: int
    skip: int

    def key(self) -> bytes:
        """That of a read."""
        return Read(self.id, "stale").key()

    def head(self) -> bytes:
        """Its bytes."""
        return Writer().variant(9).u64(self.id).u64(self.of).u64(self.skip).done()


@dataclass(frozen=True)
class Watch:
    """Asks to be told what the slots from `start` on do to the keys that begin with the bulk, again
    and again."""

    id: int
    start: int

    def key(self) -> bytes:
        """As of all requests."""
        return Writer().variant(6).u64(self.id).done()

    def head(self) -> bytes:
        """Its bytes."""
        return Writer().variant(8).u64(self.id).u64(self.start).done()


Request = Register | Command | Read | AskStatus | ReadOn | Watch


@dataclass(frozen=True)
class ErrorReply:
    """Why a request was not served, and whom to ask instead."""

    kind: Kind
    # Whether the command certainly did not happen and never will, or may yet.
    definite: bool
    ask: int | None
    ask_at: tuple[str, int] | None
    message: str


@dataclass(frozen=True)
class Response:
    """A node's answer to the request of this key: an error, or what was asked for. `slot`: of a
    watch, the first that it does not tell of yet."""

    key: bytes
    error: ErrorReply | None = None
    session: int | None = None
    slot: int = 0
    ballot: str = "0.0"
    status: Status | None = None


def hello() -> bytes:
    """The first head of a client that takes any cluster."""
    return Writer().variant(1).u16(PROTOCOL_VERSION).option(None, id).done()


def welcomed(head: bytes) -> int:
    """Which node answers our hello with welcome. Anything else is nonsense, or its refusal."""
    reader = Reader(head)
    match reader.variant():
        case 2:
            version, _, node = reader.u16(), reader.u64(), reader.u16()
            if version != PROTOCOL_VERSION:
                ours = PROTOCOL_VERSION
                raise Nonsense(f"it speaks protocol version {version}, this client {ours}")
            reader.end()
            return node
        case 3:
            reader.u16()
            raise Nonsense(f"refused: {one_line(reader.text())}")
        case _:
            raise Nonsense("the answer to our hello is none")


def response(head: bytes) -> Response:
    """The head of a node's frame."""
    reader = Reader(head)
    match reader.variant():
        case 0:
            nonce, session = reader.u64(), reader.u64()
            key = Register(nonce).key()
            found = Response(key, session=session, slot=reader.u64(), ballot=ballot(reader))
        case 1:
            key = Command(reader.u64(), reader.u64(), 0).key()
            found = Response(key, slot=reader.u64(), ballot=ballot(reader))
        case 2:
            key = Read(reader.u64(), "stale").key()
            found = Response(key, slot=reader.u64(), ballot=ballot(reader))
        case 3:
            found = Response(AskStatus(reader.u64()).key(), status=status(reader))
        case 8:
            found = Response(_key(reader), error=_error(reader))
        case 9:
            found = Response(Watch(reader.u64(), 0).key(), slot=reader.u64())
        case _:
            raise Nonsense("the node answers what was not asked")
    reader.end()
    return found


def _key(reader: Reader) -> bytes:
    variant = reader.variant()
    if variant > 6:
        raise Nonsense("the message does not decode")
    # Only the key of a command has two numbers: its session and its place there.
    out = Writer().variant(variant).u64(reader.u64())
    return (out.u64(reader.u64()) if variant == 1 else out).done()


def _error(reader: Reader) -> ErrorReply:
    try:
        kind = Kind(reader.variant())
    except ValueError as error:
        raise Nonsense("the message does not decode") from error
    return ErrorReply(
        kind=kind,
        definite=reader.flag(),
        ask=reader.option(reader.u16),
        ask_at=reader.option(lambda: address(reader)),
        message=one_line(reader.text()),
    )


def one_line(text: str) -> str:
    """A node's text as part of one line, whatever it holds."""
    return "".join(c if c.isprintable() else " " for c in text)
