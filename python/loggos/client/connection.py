"""One connection to one node: the handshake, then whole frames, each with a deadline.

Any error leaves the stream in an unknown place, so the owner closes the connection after it.
Deadlines are seconds of `time.monotonic`.
"""

import socket
import time

from loggos.client import messages, wire
from loggos.client.errors import Nonsense
from loggos.client.messages import Request, Response

# Bytes asked of the kernel at once; longer frames take several turns.
READ_SIZE = 64 * 1024


class Connection:
    """A node that has welcomed us: `node` is its id."""

    def __init__(self, address: tuple[str, int], deadline: float):
        self._buffer = bytearray()
        self._socket = socket.create_connection(address, remaining(deadline))
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._send(wire.frame(messages.hello()), deadline)
            head, _ = self._receive(deadline)
            self.node = messages.welcomed(head)
        except BaseException:
            self.close()
            raise

    def send(self, request: Request, bulk: bytes, deadline: float) -> None:
        """Sends a request; after an error it may have arrived all the same."""
        self._send(wire.frame(request.head(), bulk), deadline)

    def receive(self, deadline: float) -> tuple[Response, bytes]:
        """The next response, whichever request it answers, and its bulk."""
        head, bulk = self._receive(deadline)
        return messages.response(head), bulk

    def close(self) -> None:
        """The node sees that we are gone."""
        self._socket.close()

    def _send(self, data: bytes, deadline: float) -> None:
        self._socket.settimeout(remaining(deadline))
        self._socket.sendall(data)

    def _receive(self, deadline: float) -> tuple[bytes, bytes]:
        while (frame := wire.take_frame(self._buffer)) is None:
            self._socket.settimeout(remaining(deadline))
            data = self._socket.recv(READ_SIZE)
            if not data:
                raise EOFError
            self._buffer += data
        return frame


def remaining(deadline: float) -> float:
    """The time left, or the error of having none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def describe(error: OSError | EOFError | Nonsense) -> str:
    """What went wrong, in the words of this program, not of the errno table."""
    match error:
        case Nonsense():
            return str(error)
        case EOFError():
            return "connection closed"
        case ConnectionRefusedError():
            return "connection refused"
        case ConnectionResetError() | BrokenPipeError():
            return "connection lost"
        case TimeoutError():
            return "no answer in time"
        case _:
            return messages.one_line(error.strerror or str(error))
