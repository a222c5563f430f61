"""Changes of keys as they happen: `src/client/watch.rs`.

A watch is where it has come to. What is told is whole slots, each once and in order; a watcher that
loses its node goes on at another one from there.
"""

import time
from collections import deque

from loggos.client import messages
from loggos.client.caller import BACK_OFF_MAX, BACK_OFF_MIN, Caller
from loggos.client.errors import Definite, Nonsense
from loggos.client.messages import Kind
from loggos.client.replies import Change, changes

# A node tells every second how far it has come. One that is silent for longer is left.
SILENCE_S_MAX = 3.0


class Watcher:
    """An iterator of the changes of some keys, which waits for the next one, for ever if there are
    nodes to ask. It has a connection of its own, and is for one thread at a time.

    `Definite` if no node knows any more what happened in the slots that come next: then the keys
    have to be read anew, and watched from there.
    """

    def __init__(self, caller: Caller, prefix: bytes, start: int):
        self._caller = caller
        self._prefix = prefix
        # The first slot that we were not told of.
        self._next = start
        # Told and not taken yet.
        self._changes: deque[Change] = deque()
        # Of the request that the connection answers.
        self._request: messages.Watch | None = None
        self._next_id = 1
        # For so long we shall yet wait for the node. Only waiting counts: whoever comes back after
        # an hour finds what was sent meanwhile.
        self._patience = SILENCE_S_MAX
        # Nodes in a row that do not know what the next slot did.
        self._too_old = 0
        self._back_off = BACK_OFF_MIN

    def __enter__(self) -> "Watcher":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> "Watcher":
        return self

    def __next__(self) -> Change:
        while (change := self.wait(SILENCE_S_MAX)) is None:
            pass
        return change

    @property
    def position(self) -> int:
        """The slot to watch from to be told what was not taken here yet."""
        return self._changes[0].slot if self._changes else self._next

    def wait(self, seconds: float) -> Change | None:
        """The next change, if there is one within so many seconds."""
        deadline = time.monotonic() + seconds
        try:
            while not self._changes:
                if deadline <= time.monotonic():
                    return None
                self._listen(deadline)
        except BaseException:
            # Ctrl-C, for example, in the middle of a frame.
            self.close()
            raise
        return self._changes.popleft()

    def close(self) -> None:
        """Ends the connection. Asked for more, it goes on from where it was."""
        self._request = None
        self._caller.close()

    def _listen(self, deadline: float) -> None:
        """Takes the next message of the watch, and begins the watch if there is none; leaves a node
        that is silent or has no more to tell."""
        began = time.monotonic()
        silent_at = began + self._patience
        until = min(deadline, silent_at)
        try:
            if self._request is None:
                self._begin(until)
            self._take(*self._caller.connection(until).receive(until))
        except TimeoutError:
            now = time.monotonic()
            if silent_at <= now:
                self._leave(deadline)
                return
            # Our own patience is over, not the node's.
            self._patience -= now - began
            if self._request is None:
                self.close()
        except (OSError, EOFError, Nonsense):
            self._leave(deadline)

    def _begin(self, until: float) -> None:
        request = messages.Watch(self._next_id, self._next)
        self._next_id += 1
        self._caller.connection(until).send(request, self._prefix, until)
        self._request = request

    def _take(self, response: messages.Response, bulk: bytes) -> None:
        if response.key != self._request.key():
            return
        if response.error is not None and response.error.kind is Kind.TOO_OLD:
            self._too_old += 1
            self._leave(deadline=0.0)
            if self._caller.count() <= self._too_old:
                raise Definite(response.error.message)
            return
        if response.error is not None:
            raise Nonsense(response.error.message)
        told = changes(bulk)
        self._too_old = 0
        self._patience = SILENCE_S_MAX
        self._back_off = BACK_OFF_MIN
        self._changes += (it for it in told if self._next <= it.slot < response.slot)
        self._next = max(self._next, response.slot)

    def _leave(self, deadline: float) -> None:
        """Turns to the next node, after a while that grows."""
        self._request = None
        self._patience = SILENCE_S_MAX
        self._caller.next_node()
        time.sleep(max(0.0, min(self._back_off, deadline - time.monotonic())))
        self._back_off = min(2 * self._back_off, BACK_OFF_MAX)
