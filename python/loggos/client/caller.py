"""One request, one answer, whatever fails meanwhile: nodes are tried one after the other.

Invariant: a request is the same bytes through every retry. What that means for a command is the
business of `client`; here it is only kept in mind whether some attempt may have taken effect.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from loggos.client.connection import Connection, describe
from loggos.client.errors import Nonsense
from loggos.client.messages import HOPELESS, ErrorReply, Kind, Request, Response

# Between two rounds through all nodes, in seconds: doubled from the first to the last.
BACK_OFF_MIN, BACK_OFF_MAX = 0.005, 0.2
# A silent node is given up for the next after this part of the whole timeout, within these bounds;
# doubled with each round, or what takes long everywhere would never be done.
ATTEMPTS_PER_TIMEOUT = 4
ATTEMPT_MIN, ATTEMPT_MAX = 0.05, 1.0

Address = tuple[str, int]


class CallFailed(Exception):
    """There is no response. `maybe`: some attempt may have taken effect."""

    def __init__(self, why: str, maybe: bool, session_expired: bool = False):
        super().__init__(why)
        self.maybe = maybe
        self.session_expired = session_expired


class _NotSent(Exception):
    """The request cannot have reached the node."""


class _Lost(Exception):
    """It was sent, at least in part, and the connection brought no answer."""


@dataclass
class Node:
    """Where it serves, and its id once it has welcomed us: `ErrorReply.ask` names nodes by it."""

    address: Address
    id: int | None = None


class Caller:
    """The nodes, and the connection to the one that we talk to."""

    def __init__(self, addresses: list[Address], timeout: float):
        self.timeout = timeout
        self._nodes = [Node(address) for address in addresses]
        # The one that we talk to, or shall try next.
        self._at = 0
        self._connection: Connection | None = None

    def close(self) -> None:
        """Leaves the node that we talk to; the next request comes back to it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def count(self) -> int:
        """How many nodes there are to ask."""
        return len(self._nodes)

    def call(self, request: Request, bulk: bytes, deadline: float) -> tuple[Response, bytes, int]:
        """Sends a request to one node after the other until one answers or the time is over:
        response, bulk, and which node it was."""
        with self._closing_if_interrupted():
            return self._call(request, bulk, deadline)

    def go_on(self, request: Request, deadline: float) -> tuple[Response, bytes, int]:
        """The same, only at the node that we talk to, by the same connection: no other would know
        what is gone on with. It may take all the time there is."""
        with self._closing_if_interrupted():
            if self._connection is None:
                raise CallFailed("the connection is gone", maybe=False)
            try:
                response, bulk, node = self._attempt(request, b"", deadline)
            except _Lost as error:
                self.next_node()
                raise CallFailed(str(error), maybe=True) from error
            if response.error is not None:
                raise CallFailed(response.error.message, maybe=not response.error.definite)
            return response, bulk, node

    @contextmanager
    def _closing_if_interrupted(self) -> Iterator[None]:
        try:
            yield
        except CallFailed:
            raise
        except BaseException:
            # Ctrl-C, for example: half a frame may have been sent.
            self.close()
            raise

    def _call(self, request: Request, bulk: bytes, deadline: float) -> tuple[Response, bytes, int]:
        maybe, failures, back_off = False, 0, BACK_OFF_MIN
        patience = min(max(self.timeout / ATTEMPTS_PER_TIMEOUT, ATTEMPT_MIN), ATTEMPT_MAX)
        while True:
            address = shown(self._nodes[self._at].address)
            try:
                found = self._attempt(request, bulk, min(deadline, time.monotonic() + patience))
            except (_NotSent, _Lost) as error:
                maybe |= isinstance(error, _Lost)
                why = f"{address}: {error}"
                self.next_node()
            else:
                response, found_bulk, node = found
                error = response.error
                if error is None:
                    return response, found_bulk, node
                maybe |= not error.definite
                why = f"{address}: {error.message}"
                self._judge(error, maybe, why)

            failures += 1
            if failures % len(self._nodes) == 0:
                # Every node has had its turn, and a dead cluster would cost a whole core.
                time.sleep(max(0.0, min(back_off, deadline - time.monotonic())))
                back_off = min(2 * back_off, BACK_OFF_MAX)
                patience = min(2 * patience, self.timeout)
            if deadline <= time.monotonic():
                if maybe or len(self._nodes) == 1:
                    raise CallFailed(f"no reply within {self.timeout:g} s ({why})", maybe)
                raise CallFailed(
                    f"no node served it within {self.timeout:g} s (last: {why})", False
                )

    def _judge(self, error: ErrorReply, maybe: bool, why: str) -> None:
        """Goes to another node, or gives the request up where none would do it."""
        if error.kind is Kind.SESSION_EXPIRED:
            raise CallFailed(why, maybe, session_expired=True)
        if error.kind in HOPELESS:
            raise CallFailed(why, maybe)
        self.next_node(error.ask, error.ask_at)

    def _attempt(self, request: Request, bulk: bytes, until: float) -> tuple[Response, bytes, int]:
        try:
            connection = self.connection(until)
        except (OSError, EOFError, Nonsense) as error:
            raise _NotSent(describe(error)) from error
        key = request.key()
        try:
            # Even a failed send may have delivered the whole frame.
            connection.send(request, bulk, until)
            while True:
                response, found = connection.receive(until)
                # Else it is the answer to an earlier request, which we had given up.
                if response.key == key:
                    return response, found, connection.node
        except (OSError, EOFError, Nonsense) as error:
            raise _Lost(describe(error)) from error

    def connection(self, until: float) -> Connection:
        """That to the node that we talk to, dialled now if there is none."""
        if self._connection is None:
            node = self._nodes[self._at]
            self._connection = Connection(node.address, until)
            node.id = self._connection.node
        return self._connection

    def next_node(self, ask: int | None = None, ask_at: Address | None = None) -> None:
        """Leaves the current node, for the one to `ask` if it is known."""
        self.close()
        for at, node in enumerate(self._nodes):
            if (ask is not None and node.id == ask) or node.address == ask_at:
                self._at = at
                return
        if ask_at is None:
            self._at = (self._at + 1) % len(self._nodes)
        else:
            # It came to the cluster after we were told who is in it.
            self._nodes.append(Node(ask_at, ask))
            self._at = len(self._nodes) - 1


def shown(address: Address) -> str:
    """`HOST:PORT`, with brackets where the host has colons."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
