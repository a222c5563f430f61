"""The client: blocking, one request at a time, each with one answer.

Invariant: a command keeps its number through every retry, so that the cluster applies it at most
once, wherever it was sent. What the caller hears is a reply, or an error that says whether the
command can have happened (`errors`). Nothing here pipelines.
"""

import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from loggos.client import commands, messages, replies
from loggos.client.caller import Address, Caller, CallFailed, shown
from loggos.client.commands import Condition, Data, Parameter, Query, Step, Transaction
from loggos.client.errors import Definite, Indefinite, Nonsense, Refused
from loggos.client.messages import CONSISTENCIES, Response
from loggos.client.replies import Images, Outcome, Reply, Rows, RowsPart
from loggos.client.status import Status
from loggos.client.watch import Watcher

NODES_DEFAULT = "127.0.0.1:7401"
TIMEOUT_S = 10.0
# A session that was not used for so long is left for a new one. The cluster forgets one after a day
# without a command, and its answer to the next one then cannot be definite.
SESSION_IDLE_S_MAX = 3600.0
IMAGES_MAX = 10_000
# More than one reply has: the rest is asked for.
ENTRIES_ALL = 2**32 - 1
# How often a large result is read anew whose rest was lost.
RESULT_TRIES = 3

R = TypeVar("R", bound=Reply)


@dataclass(frozen=True)
class Decided:
    """Where an answer was decided, and who gave it. Slot and ballot grow together."""

    slot: int
    ballot: str
    node: int


@dataclass
class Session:
    """A registered session, whose commands are sent one after the other. `used`: when, by
    `_idle_clock`."""

    id: int
    used: float
    next_seq: int = 1

    def number(self) -> messages.Command:
        """The next command. All below it are answered, or the session would have been left."""
        self.next_seq += 1
        return messages.Command(self.id, self.next_seq - 1, acknowledged=self.next_seq - 1)


class Client:
    """A client of the nodes at these addresses (`HOST:PORT`), which gives each request `timeout`
    seconds. Without addresses: those in `LOGGOS_NODES`, or this machine's.

    Threads may share one; their requests then wait for each other.
    """

    def __init__(self, nodes: str | Sequence[str] | None = None, timeout: float = TIMEOUT_S):
        if not 0 < timeout < threading.TIMEOUT_MAX:
            raise ValueError(f"a timeout is a positive number of seconds, not {timeout}")
        self._addresses = addresses(nodes)
        self._caller = Caller(self._addresses, timeout)
        self._session: Session | None = None
        self._next_id = 1
        self._turn = threading.Lock()
        self._process = os.getpid()
        # Where the last answer was decided; None before the first.
        self.decided: Decided | None = None

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection. A request after it opens another."""
        with self._turn:
            self._caller.close()

    def another(self, timeout: float | None = None) -> "Client":
        """A second client of the same nodes, for requests beside those of this one."""
        most = self._caller.timeout
        nodes = [shown(address) for address in self._addresses]
        return Client(nodes, most if timeout is None else min(timeout, most))

    # Keys.

    def put(self, key: Data, value: Data, *, ttl: float | None = None) -> None:
        """Sets the key, whether it exists or not; for `ttl` seconds, if that is given."""
        if ttl is None:
            self._expect(replies.Done, commands.Put(key, value))
        else:
            self._expect(replies.Done, commands.PutFor(key, value, ttl))

    def get(
        self, key: Data, *, consistency: str = "linearizable", max_age: float | None = None
    ) -> bytes | None:
        """The value of the key, or None."""
        return self._ask(replies.Found, commands.Get(key), consistency, max_age).value

    def create(self, key: Data, value: Data) -> None:
        """Sets a key that does not exist; else `Refused`."""
        self._expect(replies.Done, commands.Create(key, value))

    def update(self, key: Data, value: Data) -> None:
        """Sets a key that exists; else `Refused`."""
        self._expect(replies.Done, commands.Update(key, value))

    def delete(self, key: Data) -> None:
        """Removes a key that exists; else `Refused`."""
        self._expect(replies.Done, commands.Delete(key))

    def cas(self, key: Data, expect: Data | None, value: Data) -> None:
        """Sets the key if it holds `expect` (None: if it does not exist); else `Refused`, with what
        it holds as `present`."""
        self._expect(replies.Done, commands.Cas(key, expect, value))

    def incr(self, key: Data, by: int = 1) -> int:
        """Adds to the decimal integer of the key (a missing one counts as 0); returns the sum."""
        return self._expect(replies.Integer, commands.Incr(key, by)).value

    def scan(
        self,
        prefix: Data = b"",
        *,
        start: Data | None = None,
        end: Data | None = None,
        limit: int | None = None,
        consistency: str = "linearizable",
        max_age: float | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys with their values, in key order: all that begin with `prefix`, or those with
        `start <= key < end`. They come in pages, and each page is read when it is needed; all are
        of the moment of the first, which the node keeps for half a minute behind each page. If it
        is gone, with its node or by then, the rest is an error (`Definite`)."""
        prefix = commands.data(prefix, "a prefix")
        if prefix and not (start is end is None):
            raise ValueError("a prefix, or start and end")
        first = prefix if start is None else commands.data(start, "a bound")
        last = commands.prefix_end(prefix) if end is None else commands.data(end, "a bound")
        # A function of its own, so that wrong arguments are told at once.
        return self._pages(first, last, limit, consistency, max_age)

    def _pages(
        self,
        start: bytes,
        end: bytes | None,
        limit: int | None,
        consistency: str,
        max_age: float | None,
    ) -> Iterator[tuple[bytes, bytes]]:
        most = ENTRIES_ALL if limit is None else min(limit, ENTRIES_ALL)
        with self._turn:
            of, page = self._first(commands.Scan(start, end, most), consistency, max_age)
        done = 0
        while True:
            if not isinstance(page, replies.Entries):
                raise Definite("the reply does not fit the request")
            entries = page.entries if limit is None else page.entries[: limit - done]
            done += len(entries)
            yield from entries
            if page.next is None or done == limit:
                return
            with self._turn:
                page = self._more(of, done)

    def _more(self, of: int, skip: int) -> Reply:
        """What a scan gives behind its first `skip` entries."""
        request = messages.ReadOn(self._take_id(), of, skip)
        try:
            return self._read(*self._caller.go_on(request, self._deadline()))
        except CallFailed as error:
            raise Definite(f"only the first {skip} entries came: {error}") from error

    def watch(self, prefix: Data = b"", start: int | None = None) -> Watcher:
        """Watches the keys that begin with `prefix`, from slot `start` on; None: from what follows
        every write that was acknowledged anywhere before. By a connection of its own, so that
        requests of this client go on beside it."""
        prefix = commands.data(prefix, "a prefix")
        if start is not None and not 0 <= start < 2**64:
            raise ValueError(f"there is no slot {start}")
        beside = self.another()
        if start is None:
            beside.ask(commands.Scan(b"", None, 0))
            start = beside.decided.slot + 1
        return Watcher(beside._caller, prefix, start)

    # Locks.

    def lock(self, key: Data, value: Data, ttl: float) -> int:
        """Takes a lock for `ttl` seconds and returns its token; `Refused` if somebody holds it,
        with the holder's value as `present`. `value` says to others who holds it."""
        try:
            return self._expect(replies.Token, commands.Lock(key, value, ttl)).token
        except Refused as refused:
            if refused.present is None:
                raise
            why = f"the lock is held by {refused.present!r}"
            raise Refused(why, refused.reason, refused.present) from None

    def renew(self, key: Data, token: int, ttl: float) -> None:
        """Holds the lock for `ttl` seconds from now; `Refused` if it is held no more."""
        self._expect(replies.Done | replies.Token, commands.Renew(key, token, ttl))

    def unlock(self, key: Data, token: int) -> None:
        """Gives the lock back; `Refused` if it is held no more."""
        self._expect(replies.Done, commands.Unlock(key, token))

    # SQL.

    def sql(self, text: str, *parameters: Parameter) -> Rows:
        """Runs one statement that may change the database. Parameters stand for the `?` in it."""
        (rows,) = self.transaction(then=[commands.Sql(text, *parameters)]).steps
        if not isinstance(rows, Rows):
            raise Indefinite("the reply does not fit the request")
        return rows

    def query(
        self,
        text: str,
        *parameters: Parameter,
        consistency: str = "linearizable",
        max_age: float | None = None,
    ) -> Rows:
        """Runs one statement that only reads; all of a large result is of one state."""
        return self._ask(Rows, commands.Sql(text, *parameters), consistency, max_age)

    # Several steps.

    def transaction(
        self,
        conditions: Sequence[Condition] = (),
        then: Sequence[Step] = (),
        otherwise: Sequence[Step] = (),
    ) -> Outcome:
        """If all conditions hold, does the steps `then`, else the steps `otherwise`: all of them,
        or, if one fails, none (`Refused`)."""
        return self._expect(Outcome, Transaction(conditions, then, otherwise))

    # Images, by their hashes; `images` has the same for files.

    def set_image(self, hash: bytes, meta: Data) -> None:
        """Sets what is known of the image of this hash."""
        self._expect(replies.Done, commands.SetImage(hash, meta))

    def delete_image(self, hash: bytes) -> None:
        """Forgets the image of exactly this hash; `Refused` if there is none."""
        self._expect(replies.Done, commands.DeleteImage(hash))

    def nearest(
        self,
        hash: bytes,
        within: int,
        limit: int = IMAGES_MAX,
        *,
        consistency: str = "linearizable",
        max_age: float | None = None,
    ) -> Images:
        """The images whose hashes differ in at most `within` bits, nearest first."""
        nearest = commands.Nearest(hash, within, limit)
        return self._ask(Images, nearest, consistency, max_age)

    # The cluster.

    def status(self) -> Status:
        """What the first node that answers tells of itself."""
        with self._turn:
            self._begin()
            response, _, _ = self._harmless(messages.AskStatus(self._take_id()), b"")
        if response.status is None:
            raise Definite("the node answered with nonsense")
        return response.status

    def execute(self, command: commands.Command | Transaction) -> Reply:
        """Has a command decided and applied, once."""
        bulk = commands.encode_command(command)
        with self._turn:
            self._begin()
            try:
                response, found, node = self._execute(bulk)
            except (Definite, Indefinite):
                raise
            except BaseException:
                # Interrupted: the command's number stays open for ever, like that of an error.
                self._session = None
                raise
            try:
                return self._answer(response, found, node)
            except Nonsense as error:
                raise Indefinite(f"the reply is damaged ({error})") from error

    def ask(
        self, query: Query, consistency: str = "linearizable", max_age: float | None = None
    ) -> Reply:
        """Answers a query. A read changes nothing, so its errors are all definite. A stale one may
        be told `max_age`: all that was acknowledged so many seconds ago is in it."""
        with self._turn:
            for _ in range(RESULT_TRIES):
                id, reply = self._first(query, consistency, max_age)
                if not isinstance(reply, RowsPart):
                    return reply
                rows = self._rest(id, reply)
                if rows is not None:
                    return rows
            raise Definite("the rest of a large result was lost again and again")

    def _first(self, query: Query, consistency: str, max_age: float | None) -> tuple[int, Reply]:
        """The first part of what a query gives, and the id by which the rest is asked for."""
        if consistency not in CONSISTENCIES:
            raise ValueError(f"consistency is one of {', '.join(CONSISTENCIES)}")
        if max_age is not None and consistency != "stale":
            raise ValueError('max_age goes with consistency="stale"')
        age_us = None if max_age is None else commands.age_us(max_age)
        self._begin()
        id = self._take_id()
        request = messages.Read(id, consistency, age_us)
        return id, self._read(*self._harmless(request, commands.encode_query(query)))

    def _rest(self, of: int, part: RowsPart) -> Rows | None:
        """All rows of a result of which this is the first part; None if the node has forgotten it,
        or we have lost the node: another has another state."""
        rows = list(part.rows.rows)
        while True:
            request = messages.ReadOn(self._take_id(), of, part.next)
            try:
                reply = self._read(*self._caller.go_on(request, self._deadline()))
            except CallFailed:
                return None
            last = reply.rows if isinstance(reply, RowsPart) else reply
            if not isinstance(last, Rows):
                raise Definite("the reply does not fit the request")
            rows += last.rows
            if last is reply:
                return replace(last, rows=rows)
            if reply.next <= part.next:
                raise Definite("the result does not come to an end")
            part = reply

    def _read(self, response: Response, bulk: bytes, node: int) -> Reply:
        try:
            return self._answer(response, bulk, node)
        except Nonsense as error:
            raise Definite(f"the reply is damaged ({error})") from error

    def _expect(self, kind: type[R], command: commands.Command | Transaction) -> R:
        reply = self.execute(command)
        if not isinstance(reply, kind):
            raise Indefinite("the reply does not fit the request")
        return reply

    def _ask(
        self, kind: type[R], query: Query, consistency: str, max_age: float | None = None
    ) -> R:
        reply = self.ask(query, consistency, max_age)
        if not isinstance(reply, kind):
            raise Definite("the reply does not fit the request")
        return reply

    def _execute(self, bulk: bytes) -> tuple[Response, bytes, int]:
        deadline = self._deadline()
        while time.monotonic() < deadline:
            session = self._registered(deadline)
            session.used = _idle_clock()
            try:
                return self._caller.call(session.number(), bulk, deadline)
            except CallFailed as error:
                if not error.maybe and not error.session_expired:
                    raise Definite(str(error)) from error
                # If the outcome is open, the number stays open for ever, and an acknowledgement
                # above it would be a lie: leave the session to expire.
                self._session = None
                if error.maybe and error.session_expired:
                    why = "the session expired while the outcome was open"
                    raise Indefinite(why) from error
                if error.maybe:
                    raise Indefinite(str(error)) from error
                # Nothing was applied: the same command may go again, under a new session.
        raise Definite("the session expired again and again")

    def _registered(self, deadline: float) -> Session:
        """The session, registered now if there is none that is fresh."""
        session = self._session
        if session is None or _idle_clock() - session.used > SESSION_IDLE_S_MAX:
            self._session = None
            # Two clients must not register under one nonce.
            request = messages.Register(secrets.randbits(64))
            # A session that nobody uses harms nobody: to the caller, nothing happened.
            response, _, _ = self._harmless(request, b"", deadline)
            if response.session is None:
                raise Definite("the node answered with nonsense")
            session = self._session = Session(response.session, _idle_clock())
        return session

    def _harmless(
        self, request: messages.Request, bulk: bytes, deadline: float | None = None
    ) -> tuple[Response, bytes, int]:
        """Calls with what changes nothing, so that it never happened, however it ends."""
        try:
            return self._caller.call(request, bulk, deadline or self._deadline())
        except CallFailed as error:
            raise Definite(str(error)) from error

    def _answer(self, response: Response, bulk: bytes, node: int) -> Reply:
        self.decided = Decided(response.slot, response.ballot, node)
        return replies.decode(bulk)

    def _begin(self) -> None:
        """A process that was forked from ours must not go on with our session: two commands of one
        number would be taken for one."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self._session = None
            self._caller.close()

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _deadline(self) -> float:
        return time.monotonic() + self._caller.timeout


def _idle_clock() -> float:
    """Goes on while the machine sleeps, where there is such a clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def addresses(nodes: str | Sequence[str] | None) -> list[Address]:
    """The addresses in a list, or in text with commas."""
    if nodes is None:
        nodes = os.environ.get("LOGGOS_NODES", NODES_DEFAULT)
    if isinstance(nodes, str):
        nodes = nodes.split(",")
    found = [address(text.strip()) for text in nodes if text.strip()]
    if not found:
        raise ValueError("there is no address of a node")
    return found


def address(text: str) -> Address:
    """Host and port of `HOST:PORT`, where an IPv6 host is in brackets."""
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 2**16):
        raise ValueError(f"{text!r}: an address is HOST:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)
