"""Nodes in threads, which share one store and speak the real frames, for tests of the client: the
same as `src/client/fake.rs`. Each asks a plan what to do wrong with a request."""

import socket
import threading
from collections.abc import Callable

from loggos.client import wire
from loggos.client.wire import Reader, Writer

REGISTER, COMMAND, READ = range(3)
WATCH, READ_ON = 8, 9
BAD_REQUEST = 2
# Rows of a result that go in one reply.
PART = 2
# What a node does with one request, besides an error, which is `error(...)`.
LOSE_REQUEST, LOSE_REPLY, SILENCE = "lose request", "lose reply", "silence"

Plan = Callable[[int, int], object]


def error(kind: int, definite: bool = True, ask: int | None = None, ask_at=None) -> bytes:
    """An error as a node sends it, behind the key of the request."""
    out = Writer().variant(kind).flag(definite)
    out.option(ask, out.u16)
    out.option(ask_at, lambda at: out.variant(0).raw(socket.inet_aton(at[0])).u16(at[1]))
    return out.text("no\nway").done()


class Fake:
    """So many nodes. `plan` gets the id of a node and the kind of a request."""

    def __init__(self, count: int, plan: Plan = lambda node, kind: None):
        self.plan = plan
        self.keys: dict[bytes, int] = {}
        self.replies: dict[tuple[int, int], int] = {}
        self.sessions = 0
        self.acknowledged: list[int] = []
        # What a query of SQL gives.
        self.rows: list[int] = []
        # What watchers are told, PART changes at each node, which then falls silent.
        self.changes: list[tuple[int, bytes, bytes]] = []
        self._lock = threading.Lock()
        self.addresses = [self.listen(node) for node in range(1, count + 1)]

    def listen(self, node: int) -> str:
        """Starts a node; returns its address."""
        listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, args=(node, listener), daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    def _accept(self, node: int, listener: socket.socket) -> None:
        while True:
            stream, _ = listener.accept()
            threading.Thread(target=self._serve, args=(node, stream), daemon=True).start()

    def _serve(self, node: int, stream: socket.socket) -> None:
        buffer, greeted, held = bytearray(), False, set()
        with stream:
            while data := stream.recv(4096):
                buffer += data
                while frame := wire.take_frame(buffer):
                    if not greeted:
                        welcome = Writer().variant(2).u16(1).u64(99).u16(node).done()
                        stream.sendall(wire.frame(welcome))
                        greeted = True
                        continue
                    with self._lock:
                        answer = self._handle(node, *frame, held)
                    if answer is LOSE_REPLY:
                        return
                    if answer is not SILENCE:
                        stream.sendall(answer)

    def _handle(self, node: int, head: bytes, bulk: bytes, held: set[int]) -> object:
        reader = Reader(head)
        kind = reader.variant()
        fault = self.plan(node, kind)
        key_size = 20 if kind == COMMAND else 12
        if isinstance(fault, bytes):
            key = Writer().variant(6).raw(head[4:12]).done() if kind == WATCH else head[:key_size]
            return wire.frame(Writer().variant(8).raw(key + fault).done())
        if fault == LOSE_REQUEST:
            return LOSE_REPLY
        if fault == SILENCE:
            return SILENCE
        if kind == WATCH:
            return self._changes(reader.u64(), reader.u64(), bulk)
        found, reply = Writer().variant(READ if kind == READ_ON else kind), b""
        if kind == REGISTER:
            self.sessions += 1
            found.u64(reader.u64()).u64(self.sessions)
        elif kind == COMMAND:
            id = (reader.u64(), reader.u64())
            self.acknowledged.append(reader.u64())
            if id not in self.replies:
                self.replies[id] = self._incr(bulk)
            found.raw(head[4:key_size])
            reply = Writer().variant(1).i64(self.replies[id]).done()
        elif kind == READ_ON:
            found.raw(head[4:key_size])
            _, of, skip = reader.u64(), reader.u64(), reader.u64()
            if of not in held:
                key = Writer().variant(READ).raw(head[4:key_size]).done()
                return wire.frame(Writer().variant(8).raw(key + error(BAD_REQUEST)).done())
            reply = self._part(skip)
        elif kind == READ and bulk[0] == 2:
            found.raw(head[4:key_size])
            held.add(reader.u64())
            reply = self._part(0)
        elif kind == READ:
            found.raw(head[4:key_size])
            value = self.keys.get(bulk[12:])
            out = Writer().variant(2)
            reply = out.option(value, lambda sum: out.blob(b"%d" % sum)).done()
        return (
            LOSE_REPLY
            if fault == LOSE_REPLY
            else wire.frame(found.u64(7).u64(3).u16(1).done(), reply)
        )

    def _changes(self, id: int, start: int, prefix: bytes) -> bytes:
        told = [it for it in self.changes if it[0] >= start and it[1].startswith(prefix)]
        end = told[PART][0] if len(told) > PART else max([start, *(it[0] + 1 for it in told)])
        out = Writer()
        for slot, key, value in told[:PART]:
            out.u64(slot).u32(8 + len(key) + len(value)).u32(len(key)).u32(len(value))
            out.raw(key + value)
        return wire.frame(Writer().variant(9).u64(id).u64(end).done(), out.done())

    def _part(self, skip: int) -> bytes:
        rows = self.rows[skip : skip + PART]
        is_last = len(self.rows) <= skip + PART
        out = Writer().variant(6 if is_last else 9).u64(1).text("n").u64(len(rows))
        for row in rows:
            out.u64(1).variant(1).i64(row)
        out.u64(0).option(None, id)
        return out.done() if is_last else out.u64(skip + PART).done()

    def _incr(self, bulk: bytes) -> int:
        reader = Reader(bulk)
        assert reader.variant() == 5, "the fake's store knows no other command"
        key = reader.blob()
        self.keys[key] = self.keys.get(key, 0) + reader.i64()
        return self.keys[key]


def first_commands(count: int, fault: object) -> Plan:
    """Spoils the first commands, not the registrations."""
    left = [count]

    def plan(_: int, kind: int) -> object:
        if kind == COMMAND and left[0] > 0:
            left[0] -= 1
            return fault
        return None

    return plan
