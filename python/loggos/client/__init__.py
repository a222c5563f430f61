"""A client of a Loggos cluster in Python alone: keys, SQL, transactions, locks, and images as keys.

    from loggos.client import Client

    with Client(["127.0.0.1:7401"]) as client:
        client.put("greeting", "hello")

`client` has the operations, `locks` a lock that is renewed while a block runs, `caller` the
retries, `watch` the changes of keys as they happen, `connection` one node, `messages`, `commands`,
`replies` and `status` the bytes of what is said, in `wire`'s frames. Nothing of it needs more than
the standard library; only `images` does, and is imported by itself, as `locks` is.
"""

from loggos.client.client import Client, Decided
from loggos.client.commands import (
    Cas,
    Create,
    Delete,
    DeleteImage,
    Equal,
    Get,
    Greater,
    Held,
    Incr,
    Less,
    Lock,
    Missing,
    Nearest,
    NotEqual,
    Present,
    Put,
    PutFor,
    Renew,
    SetImage,
    Sql,
    Unlock,
    Update,
)
from loggos.client.errors import Definite, Error, Indefinite, Refused
from loggos.client.replies import Change, Image, Images, Outcome, Rows
from loggos.client.status import Status
from loggos.client.watch import Watcher

__all__ = [
    "Cas",
    "Change",
    "Client",
    "Create",
    "Decided",
    "Definite",
    "Delete",
    "DeleteImage",
    "Equal",
    "Error",
    "Get",
    "Greater",
    "Held",
    "Image",
    "Images",
    "Incr",
    "Indefinite",
    "Less",
    "Lock",
    "Missing",
    "Nearest",
    "NotEqual",
    "Outcome",
    "Present",
    "Put",
    "PutFor",
    "Refused",
    "Renew",
    "Rows",
    "SetImage",
    "Sql",
    "Status",
    "Unlock",
    "Update",
    "Watcher",
]
