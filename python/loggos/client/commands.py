"""What can be asked of the store: `src/store/command.rs`, `src/store/transaction.rs` and the
parameters of `src/sql/value.rs`.

Each is plain data that writes its own bytes. Text stands for its UTF-8 in keys and values. What is
over a limit, or no value at all, is an error as soon as the command is made.
"""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import ClassVar

from loggos.client.wire import Writer

KEY_SIZE_MAX = 4 * 1024
VALUE_SIZE_MAX = 1024 * 1024
HASH_SIZE_MAX, WITHIN_MAX = 128, 1024
COMMAND_SIZE_MAX = 2 * VALUE_SIZE_MAX + KEY_SIZE_MAX + 1024
TTL_US_MAX = 2**64 - 1

Data = str | bytes | bytearray | memoryview
Parameter = None | int | float | str | bytes


def data(value: Data, what: str = "a value") -> bytes:
    """The bytes of text, or of bytes."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"{what} is str or bytes, not {type(value).__name__}")


def key_bytes(key: Data) -> bytes:
    """The same of a key, with its limits."""
    key = data(key, "a key")
    if not 1 <= len(key) <= KEY_SIZE_MAX:
        raise ValueError(f"a key has 1 to {KEY_SIZE_MAX} bytes; this one has {len(key)}")
    return key


def value_bytes(value: Data) -> bytes:
    """The same of a value."""
    value = data(value)
    if len(value) > VALUE_SIZE_MAX:
        raise ValueError(f"a value has at most {VALUE_SIZE_MAX} bytes; this one has {len(value)}")
    return value


def hash_bytes(hash: bytes) -> bytes:
    """The same of an image's hash."""
    if not isinstance(hash, bytes):
        raise TypeError(f"a hash is bytes, not {type(hash).__name__}")
    if not 1 <= len(hash) <= HASH_SIZE_MAX:
        raise ValueError(f"a hash has 1 to {HASH_SIZE_MAX} bytes; this one has {len(hash)}")
    return hash


def signed(number: int) -> int:
    """A number of 64 bits, signed."""
    number = operator.index(number)
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{number} does not fit 64 bits")
    return number


def microseconds(ttl: float) -> int:
    """A time to live that is given in seconds."""
    us = round(ttl * 1e6) if math.isfinite(ttl) else 0
    if not 1 <= us <= TTL_US_MAX:
        raise ValueError(f"a time to live is a positive number of seconds, not {ttl}")
    return us


def age_us(age: float) -> int:
    """How old a read may be, given in seconds."""
    us = round(age * 1e6) if math.isfinite(age) else -1
    if not 0 <= us < 2**64:
        raise ValueError(f"an age is a number of seconds, not {age}")
    return us


class _OfKey:
    """A command about one key. The fields that follow it are written in their order."""

    VARIANT: ClassVar[int]

    def write(self, out: Writer) -> None:
        """Appends its bytes."""
        out.variant(self.VARIANT).blob(key_bytes(self.key))
        self._write_rest(out)

    def _write_rest(self, out: Writer) -> None:
        """Appends what stands behind the key."""


class _OfKeyAndValue(_OfKey):
    def _write_rest(self, out: Writer) -> None:
        out.blob(value_bytes(self.value))


@dataclass(frozen=True)
class Put(_OfKeyAndValue):
    """Sets the key, whether it exists or not."""

    VARIANT = 0
    key: Data
    value: Data


@dataclass(frozen=True)
class Create(_OfKeyAndValue):
    """Sets a key that does not exist."""

    VARIANT = 1
    key: Data
    value: Data


@dataclass(frozen=True)
class Update(_OfKeyAndValue):
    """Sets a key that exists."""

    VARIANT = 2
    key: Data
    value: Data


@dataclass(frozen=True)
class Delete(_OfKey):
    """Removes a key that exists."""

    VARIANT = 3
    key: Data


@dataclass(frozen=True)
class Cas(_OfKey):
    """Sets the key if it holds `expect`; None: if it does not exist."""

    VARIANT = 4
    key: Data
    expect: Data | None
    value: Data

    def _write_rest(self, out: Writer) -> None:
        out.option(None if self.expect is None else value_bytes(self.expect), out.blob)
        out.blob(value_bytes(self.value))


@dataclass(frozen=True)
class Incr(_OfKey):
    """Adds to the decimal integer of a key; a missing one counts as 0."""

    VARIANT = 5
    key: Data
    by: int = 1

    def _write_rest(self, out: Writer) -> None:
        out.i64(signed(self.by))


@dataclass(frozen=True)
class PutFor(_OfKeyAndValue):
    """Sets the key for `ttl` seconds of the log's time."""

    VARIANT = 7
    key: Data
    value: Data
    ttl: float

    def _write_rest(self, out: Writer) -> None:
        super()._write_rest(out)
        out.u64(microseconds(self.ttl))


@dataclass(frozen=True)
class Lock(PutFor):
    """Takes the lock if nobody holds it; the reply is a token, larger with each holder."""

    VARIANT = 8


@dataclass(frozen=True)
class Renew(_OfKey):
    """Holds the lock of this token for `ttl` seconds from now."""

    VARIANT = 9
    key: Data
    token: int
    ttl: float

    def _write_rest(self, out: Writer) -> None:
        out.u64(self.token).u64(microseconds(self.ttl))


@dataclass(frozen=True)
class Unlock(_OfKey):
    """Gives the lock of this token back."""

    VARIANT = 10
    key: Data
    token: int

    def _write_rest(self, out: Writer) -> None:
        out.u64(self.token)


@dataclass(frozen=True)
class SetImage:
    """Sets what is known of the image of this hash."""

    hash: bytes
    meta: Data

    def write(self, out: Writer) -> None:
        """Appends its bytes."""
        out.variant(11).blob(hash_bytes(self.hash)).blob(value_bytes(self.meta))


@dataclass(frozen=True)
class DeleteImage:
    """Forgets the image of exactly this hash."""

    hash: bytes

    def write(self, out: Writer) -> None:
        """Appends its bytes."""
        out.variant(12).blob(hash_bytes(self.hash))


@dataclass(frozen=True)
class Get:
    """The value of a key."""

    key: Data

    def write(self, out: Writer) -> None:
        """Appends its bytes, as a query."""
        out.variant(0).blob(key_bytes(self.key))

    def write_step(self, out: Writer) -> None:
        """The same, as a step."""
        out.variant(1).blob(key_bytes(self.key))


@dataclass(frozen=True)
class Scan:
    """One page of the entries with `start <= key < end`, in key order."""

    start: bytes
    end: bytes | None
    limit: int

    def write(self, out: Writer) -> None:
        """Appends its bytes."""
        out.variant(1).blob(self.start).option(self.end, out.blob).u32(self.limit)


@dataclass(frozen=True, init=False)
class Sql:
    """One statement, and what stands for its parameters: None, int, float, str or bytes."""

    text: str
    parameters: tuple[Parameter, ...]

    def __init__(self, text: str, *parameters: Parameter):
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "parameters", parameters)

    def write(self, out: Writer) -> None:
        """Appends its bytes, as a query: a statement within bytes."""
        out.variant(2).blob(self.statement())

    def write_step(self, out: Writer) -> None:
        """The same, as a step: the statement as it is."""
        out.variant(2).raw(self.statement())

    def statement(self) -> bytes:
        """Text and parameters."""
        out = Writer().text(self.text).u64(len(self.parameters))
        for parameter in self.parameters:
            _write_parameter(parameter, out)
        return out.done()


def _write_parameter(value: Parameter, out: Writer) -> None:
    match value:
        case None:
            out.variant(0)
        # Also those of numpy, and the truth as 1 or 0.
        case Integral():
            out.variant(1).i64(signed(int(value)))
        case Real():
            number = float(value)
            # SQLite has no such number either, and makes NULL of it.
            if math.isnan(number):
                out.variant(0)
            else:
                out.variant(2).f64(number)
        case str():
            out.variant(3).text(value)
        case bytes() | bytearray() | memoryview():
            out.variant(4).blob(bytes(value))
        case _:
            kind = type(value).__name__
            raise TypeError(f"a parameter is None, int, float, str or bytes, not {kind}")


@dataclass(frozen=True)
class Nearest:
    """The images whose hashes differ from this one in at most `within` bits, nearest first."""

    hash: bytes
    within: int
    limit: int

    def write(self, out: Writer) -> None:
        """Appends its bytes, as a query or a step."""
        if not 0 <= self.within <= WITHIN_MAX:
            raise ValueError(f"images differ in 0 to {WITHIN_MAX} bits, not {self.within}")
        out.variant(3).blob(hash_bytes(self.hash)).u32(self.within).u32(self.limit)

    write_step = write


OfKey = Put | Create | Update | Delete | Cas | Incr | PutFor | Lock | Renew | Unlock
Command = OfKey | SetImage | DeleteImage
Query = Get | Scan | Sql | Nearest
Step = Command | Get | Sql | Nearest


class _Holds:
    """What a key must hold. Only `Missing` is true of a key that does not exist."""

    VARIANT: ClassVar[int]

    def write(self, out: Writer) -> None:
        """Appends its bytes."""
        out.blob(key_bytes(self.key)).variant(self.VARIANT)


class _Compares(_Holds):
    """Values compare as bytes."""

    def write(self, out: Writer) -> None:
        """Appends its bytes."""
        super().write(out)
        out.blob(data(self.value))


@dataclass(frozen=True)
class Missing(_Holds):
    """The key does not exist."""

    VARIANT = 0
    key: Data


@dataclass(frozen=True)
class Present(_Holds):
    """The key exists."""

    VARIANT = 1
    key: Data


@dataclass(frozen=True)
class Equal(_Compares):
    """The key holds this."""

    VARIANT = 2
    key: Data
    value: Data


@dataclass(frozen=True)
class NotEqual(_Compares):
    """The key holds something else."""

    VARIANT = 3
    key: Data
    value: Data


@dataclass(frozen=True)
class Less(_Compares):
    """What the key holds is less."""

    VARIANT = 4
    key: Data
    value: Data


@dataclass(frozen=True)
class Greater(_Compares):
    """What the key holds is greater."""

    VARIANT = 5
    key: Data
    value: Data


@dataclass(frozen=True)
class Held(_Holds):
    """The lock is held, by the holder of this token."""

    VARIANT = 6
    key: Data
    token: int

    def write(self, out: Writer) -> None:
        """Appends its bytes."""
        super().write(out)
        out.u64(self.token)


Condition = Missing | Present | Equal | NotEqual | Less | Greater | Held


@dataclass(frozen=True)
class Transaction:
    """If all conditions hold, the steps `then` are done, else the steps `otherwise`: all of them,
    or none."""

    conditions: Sequence[Condition] = ()
    then: Sequence[Step] = ()
    otherwise: Sequence[Step] = ()

    def write(self, out: Writer) -> None:
        """Appends its bytes: as a command, it is bytes within bytes."""
        inner = Writer().u64(len(self.conditions))
        for condition in self.conditions:
            condition.write(inner)
        for steps in (self.then, self.otherwise):
            inner.u64(len(steps))
            for step in steps:
                _write_step(step, inner)
        out.variant(6).blob(inner.done())


def _write_step(step: Step, out: Writer) -> None:
    match step:
        case Get() | Sql() | Nearest():
            step.write_step(out)
        case Transaction():
            raise TypeError("a transaction in a transaction")
        case _:
            step.write(out.variant(0))


def encode_command(command: Command | Transaction) -> bytes:
    """The bytes of a command."""
    payload = encode_query(command)
    if len(payload) > COMMAND_SIZE_MAX:
        size = len(payload)
        raise ValueError(f"a command has at most {COMMAND_SIZE_MAX} bytes; this one has {size}")
    return payload


def encode_query(query: Query) -> bytes:
    """The bytes of a query."""
    out = Writer()
    query.write(out)
    return out.done()


def prefix_end(prefix: bytes) -> bytes | None:
    """The end of the range of all keys that begin with `prefix`; None: it is open."""
    whole = prefix.rstrip(b"\xff")
    return whole[:-1] + bytes([whole[-1] + 1]) if whole else None
