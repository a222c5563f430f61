"""Frames and the values in them: the same bytes as `src/wire/frame.rs` and `src/wire/codec.rs`.

A frame is a header, a head (bincode with integers of fixed size, little-endian) and a bulk part:

| offset | size | field |
| --- | --- | --- |
| 0 | 2 | magic `Lg` |
| 2 | 1 | version of the frame format, 1 |
| 3 | 1 | zero |
| 4 | 4 | size of the head in bytes |
| 8 | 4 | size of the bulk in bytes |
| 12 | 4 | CRC-32 of the bytes 0 to 11, the head and the bulk |

In a head, the variant of an enum is a u32, a length a u64, an optional value begins with a byte 0
or 1, and a struct is its fields one after the other.
"""

import struct
import zlib
from collections.abc import Callable
from typing import TypeVar

from loggos.client.errors import Nonsense

HEADER = struct.Struct("<2sBBII")
HEADER_SIZE = HEADER.size + 4
MAGIC, VERSION = b"Lg", 1
HEAD_SIZE_MAX = 1024 * 1024
BULK_SIZE_MAX = 8 * 1024 * 1024

T = TypeVar("T")


class Writer:
    """Bytes that grow; each method appends one value and returns the writer."""

    def __init__(self):
        self._out = bytearray()

    def done(self) -> bytes:
        """All that was written."""
        return bytes(self._out)

    def _pack(self, form: str, value: object) -> "Writer":
        try:
            self._out += struct.pack(form, value)
        except struct.error as error:
            raise ValueError(f"{value!r} does not fit its place: {error}") from None
        return self

    def flag(self, value: bool) -> "Writer":
        """A bool."""
        return self._pack("<?", value)

    def u16(self, value: int) -> "Writer":
        """Two bytes."""
        return self._pack("<H", value)

    def u32(self, value: int) -> "Writer":
        """Four bytes."""
        return self._pack("<I", value)

    variant = u32

    def u64(self, value: int) -> "Writer":
        """Eight bytes."""
        return self._pack("<Q", value)

    def i64(self, value: int) -> "Writer":
        """Eight bytes, signed."""
        return self._pack("<q", value)

    def f64(self, value: float) -> "Writer":
        """Eight bytes, IEEE 754."""
        return self._pack("<d", value)

    def blob(self, value: bytes) -> "Writer":
        """A length and so many bytes."""
        self.u64(len(value))
        self._out += value
        return self

    def raw(self, value: bytes) -> "Writer":
        """Bytes that tell their own length."""
        self._out += value
        return self

    def text(self, value: str) -> "Writer":
        """A length and UTF-8."""
        return self.blob(value.encode())

    def option(self, value: T | None, write: Callable[[T], object]) -> "Writer":
        """A value, or that there is none."""
        self.flag(value is not None)
        if value is not None:
            write(value)
        return self


class Reader:
    """Takes values from bytes. What is not there, or no such value, is `Nonsense`."""

    def __init__(self, data: bytes):
        self._data = data
        self._at = 0

    def _take(self, size: int) -> bytes:
        if len(self._data) - self._at < size:
            raise Nonsense("the message does not decode")
        self._at += size
        return self._data[self._at - size : self._at]

    def _unpack(self, form: str):
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def end(self) -> None:
        """Nothing may be left over."""
        if self._at != len(self._data):
            raise Nonsense("bytes left over behind the message")

    def is_at_end(self) -> bool:
        """Whether all was taken."""
        return self._at == len(self._data)

    def flag(self) -> bool:
        """A bool: 0 or 1 and nothing else."""
        value = self.u8()
        if value > 1:
            raise Nonsense("the message does not decode")
        return value == 1

    def u8(self) -> int:
        """One byte."""
        return self._unpack("<B")

    def u16(self) -> int:
        """Two bytes."""
        return self._unpack("<H")

    def u32(self) -> int:
        """Four bytes."""
        return self._unpack("<I")

    variant = u32

    def u64(self) -> int:
        """Eight bytes."""
        return self._unpack("<Q")

    def i64(self) -> int:
        """Eight bytes, signed."""
        return self._unpack("<q")

    def f64(self) -> float:
        """Eight bytes, IEEE 754."""
        return self._unpack("<d")

    def fixed(self, size: int) -> bytes:
        """So many bytes, without a length."""
        return self._take(size)

    def blob(self) -> bytes:
        """A length and so many bytes."""
        return self._take(self.u64())

    def text(self) -> str:
        """A length and UTF-8."""
        try:
            return self.blob().decode()
        except UnicodeDecodeError as error:
            raise Nonsense("the message does not decode") from error

    def option(self, read: Callable[[], T]) -> T | None:
        """A value, or that there is none."""
        return read() if self.flag() else None

    def sequence(self, read: Callable[[], T]) -> list[T]:
        """A length and so many values."""
        # Every value takes a byte or more, so that a length alone costs no time and memory.
        count = self.u64()
        if len(self._data) - self._at < count:
            raise Nonsense("the message does not decode")
        return [read() for _ in range(count)]


def frame(head: bytes, bulk: bytes = b"") -> bytes:
    """One frame. Over the limits, it would end the connection."""
    if len(head) > HEAD_SIZE_MAX or len(bulk) > BULK_SIZE_MAX:
        raise ValueError(f"a request has at most {BULK_SIZE_MAX} bytes; this one has {len(bulk)}")
    header = HEADER.pack(MAGIC, VERSION, 0, len(head), len(bulk))
    crc = zlib.crc32(bulk, zlib.crc32(head, zlib.crc32(header)))
    return header + struct.pack("<I", crc) + head + bulk


def take_frame(buffer: bytearray) -> tuple[bytes, bytes] | None:
    """Takes the first frame from the buffer: its head and bulk; None if it is not there in full
    yet. The header is judged as soon as it is there: sizes over the limits are not waited for."""
    if not MAGIC.startswith(bytes(buffer[:2])):
        raise Nonsense("this is no Loggos frame")
    if len(buffer) < HEADER_SIZE:
        return None
    _, version, zero, head_size, bulk_size = HEADER.unpack_from(buffer)
    if version != VERSION or zero != 0:
        raise Nonsense(f"frame format version {version} is not known here")
    if head_size > HEAD_SIZE_MAX or bulk_size > BULK_SIZE_MAX:
        raise Nonsense(f"a frame of {head_size} + {bulk_size} bytes is over the limit")
    size = HEADER_SIZE + head_size + bulk_size
    if len(buffer) < size:
        return None
    (crc,) = struct.unpack_from("<I", buffer, HEADER.size)
    head = bytes(buffer[HEADER_SIZE : HEADER_SIZE + head_size])
    bulk = bytes(buffer[HEADER_SIZE + head_size : size])
    if crc != zlib.crc32(bulk, zlib.crc32(head, zlib.crc32(buffer[: HEADER.size]))):
        raise Nonsense("the frame's checksum is wrong")
    del buffer[:size]
    return head, bulk
