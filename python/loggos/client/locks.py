"""A lock that is held for as long as a block runs, and renewed meanwhile.

Nobody can promise that a lock is still held at the moment when something is done: this program may
have been stopped for a while. What must not happen without the lock is a transaction with the
condition `Held(key, token)`; other systems can refuse tokens lower than one that they have seen.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from loggos.client.client import Client
from loggos.client.commands import Data
from loggos.client.errors import Error, Refused

# A lock is renewed so often before it would run out.
RENEWALS = 3


@dataclass(frozen=True)
class Holding:
    """A lock that we took; `lost` is set as soon as it may be somebody else's."""

    key: Data
    token: int
    lost: threading.Event = field(default_factory=threading.Event)


@contextmanager
def hold(client: Client, key: Data, value: Data, ttl: float) -> Iterator[Holding]:
    """Takes a lock, or is `Refused`; renews it from a thread, by a connection of its own, until the
    block ends, and gives it back. Should this program die, it is free after `ttl` seconds."""
    began = time.monotonic()
    holding = Holding(key, client.lock(key, value, ttl))
    ended = threading.Event()
    renews = threading.Thread(
        target=_renew, args=(client.another(ttl / RENEWALS), holding, ttl, began, ended)
    )
    renews.start()
    try:
        yield holding
    finally:
        ended.set()
        renews.join()
        # It has run out, or is somebody else's: there is nothing to give back.
        with suppress(Refused):
            client.unlock(key, holding.token)


def _renew(client: Client, holding: Holding, ttl: float, since: float, ended: threading.Event):
    """`since`: before the lock was last renewed, so that it certainly is held until `ttl` later."""
    with client:
        while not ended.wait(max(0.0, min(ttl / RENEWALS, since + ttl - time.monotonic()))):
            asked = time.monotonic()
            if since + ttl <= asked:
                holding.lost.set()
                return
            try:
                client.renew(holding.key, holding.token, ttl)
                since = asked
            except Refused:
                holding.lost.set()
                return
            except Error:
                # Another node may answer the next one, if there is time for it.
                continue
