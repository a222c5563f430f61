"""What the store answers: `Reply` and `StepReply` of `src/store/command.rs`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from loggos.client.errors import Nonsense, Refused
from loggos.client.wire import Reader

Value = None | int | float | str | bytes


@dataclass(frozen=True)
class Rows:
    """What a statement of SQL gave. `changes`: rows that it inserted, updated or deleted itself;
    `last_row_id`: of the last row inserted in this command so far, if there is one."""

    columns: list[str]
    rows: list[tuple[Value, ...]]
    changes: int
    last_row_id: int | None

    def __iter__(self) -> Iterator[tuple[Value, ...]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class RowsPart:
    """Some of the rows of a result; `next`: how many there are up to here, of which more are to be
    asked for."""

    rows: Rows
    next: int


@dataclass(frozen=True)
class Image:
    """An image that was found: in how many bits its hash differs, the hash, what is known of it."""

    distance: int
    hash: bytes
    meta: bytes


@dataclass(frozen=True)
class Images:
    """Images, nearest first; `more`: the limit left some out."""

    images: list[Image]
    more: bool


@dataclass(frozen=True)
class Entries:
    """One page of a scan; `next`: where the next begins."""

    entries: list[tuple[bytes, bytes]]
    next: bytes | None


@dataclass(frozen=True)
class Outcome:
    """What a transaction did: whether its conditions held, and what each step of that side gave:
    None, an integer, a value or None, `Rows`, the token of a lock, or a list of `Image`."""

    held: bool
    steps: list[object]


@dataclass(frozen=True)
class Done:
    """It is done, and there is nothing to tell."""


@dataclass(frozen=True)
class Integer:
    """A sum."""

    value: int


@dataclass(frozen=True)
class Found:
    """The value of a key, if there is one."""

    value: bytes | None


@dataclass(frozen=True)
class Token:
    """Of a lock."""

    token: int


class Change(NamedTuple):
    """What a slot did to a key that is watched. `value`: None if the key is gone."""

    slot: int
    key: bytes
    value: bytes | None


# The size of a value that is none.
GONE = 2**32 - 1

Reply = Done | Integer | Found | Entries | Outcome | Rows | Token | Images | RowsPart

# By variant: the word for programs, and what a person is told. Some have fields, see below.
FAILURES = (
    ("exists", "the key exists already"),
    ("not_found", "the key does not exist"),
    ("mismatch", "the key holds another value"),
    ("not_an_integer", "the value is no integer"),
    ("overflow", "the sum leaves 64 bits"),
    ("invalid", "the store takes no such command"),
    ("step", ""),
    ("sql", ""),
    ("not_held", "the lock is not held with this token"),
)


def decode(bulk: bytes) -> Reply:
    """A reply. One that says no is raised, as `Refused`."""
    reader = Reader(bulk)
    found = _reply(reader)
    reader.end()
    return found


def changes(bulk: bytes) -> list[Change]:
    """The changes of slots: `write_slot_changes` of `src/wire/kv.rs`."""
    found, reader = [], Reader(bulk)
    while not reader.is_at_end():
        slot, of_slot = reader.u64(), Reader(reader.fixed(reader.u32()))
        while not of_slot.is_at_end():
            key_size, value_size = of_slot.u32(), of_slot.u32()
            key = of_slot.fixed(key_size)
            value = None if value_size == GONE else of_slot.fixed(value_size)
            found.append(Change(slot, key, value))
    return found


def _reply(reader: Reader) -> Reply:
    match reader.variant():
        case 0:
            return Done()
        case 1:
            return Integer(reader.i64())
        case 2:
            return Found(reader.option(reader.blob))
        case 3:
            entries = reader.sequence(lambda: (reader.blob(), reader.blob()))
            return Entries(entries, reader.option(reader.blob))
        case 4:
            _refuse(reader)
        case 5:
            return Outcome(reader.flag(), reader.sequence(lambda: _step(reader)))
        case 6:
            return _rows(reader)
        case 7:
            return Token(reader.u64())
        case 8:
            return Images(_images(reader), reader.flag())
        case 9:
            return RowsPart(_rows(reader), reader.u64())
        case _:
            raise Nonsense("the reply is none that is known here")


def _step(reader: Reader) -> object:
    match reader.variant():
        case 0:
            return None
        case 1:
            return reader.i64()
        case 2:
            return reader.option(reader.blob)
        case 3:
            return _rows(reader)
        case 4:
            return reader.u64()
        case 5:
            return _images(reader)
        case _:
            raise Nonsense("the reply is none that is known here")


def _refuse(reader: Reader) -> NoReturn:
    variant = reader.variant()
    if len(FAILURES) <= variant:
        raise Nonsense("the reply is none that is known here")
    reason, message = FAILURES[variant]
    present = step = None
    match reason:
        case "mismatch":
            present = reader.option(reader.blob)
            if present is None:
                message = "the key does not exist"
        case "step":
            step, message = reader.u32(), reader.text()
        case "sql":
            message = reader.text()
    reader.end()
    raise Refused(f"{message}; nothing was changed", reason, present, step)


def _rows(reader: Reader) -> Rows:
    return Rows(
        columns=reader.sequence(reader.text),
        rows=reader.sequence(lambda: tuple(reader.sequence(lambda: _value(reader)))),
        changes=reader.u64(),
        last_row_id=reader.option(reader.i64),
    )


def _value(reader: Reader) -> Value:
    match reader.variant():
        case 0:
            return None
        case 1:
            return reader.i64()
        case 2:
            return reader.f64()
        case 3:
            return reader.text()
        case 4:
            return reader.blob()
        case _:
            raise Nonsense("the reply is none that is known here")


def _images(reader: Reader) -> list[Image]:
    return reader.sequence(lambda: _image(reader))


def _image(reader: Reader) -> Image:
    hash, meta = reader.blob(), reader.blob()
    return Image(reader.u32(), hash, meta)
