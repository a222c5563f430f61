"""OmniPaxos, by a key-value server around its published library.

The server is `rivals/omnipaxos`; the bytes of its clients' protocol stand in its `clients.rs`.
"""

import re
import struct
from dataclasses import dataclass
from pathlib import Path

from addresses import node_address
from netns import connect
from systems.rival import Rival

SERVER = "omnipaxos-kv"
LOCK_FILE = Path(__file__).resolve().parents[2] / "Cargo.lock"
LIBRARY = re.compile(r'^name = "omnipaxos"\nversion = "(.*)"$', re.MULTILINE)
PEER_PORT = 7400
CLIENT_PORT = 7401
GREETING = b"OPKV\x01"
# A frame: the size of what follows, a ticket, the kind; and a state behind that: the node, its
# leader or 0, whether it leads, decided entries.
HEAD = struct.Struct("<IIB")
STATE = struct.Struct("<QQBQ")
ASK_STATE, TELL_STATE = 3, 4


@dataclass(frozen=True)
class State:
    """What a node says of itself: its leader or 0, whether it leads, how many entries it knows to
    be decided."""

    leader: int
    leads: bool
    decided: int


class OmniPaxos(Rival):
    """Sequence Paxos and ballot leader election, the log in memory."""

    name = "omnipaxos"
    about = (
        "the log is in memory only, not durable; our server around the authors' library: one "
        "thread, messages of a turn together; clients keep connections to the leader"
    )
    storage = "memory"
    client_port = CLIENT_PORT
    # What it promised is gone with the process.
    restarts = False

    @classmethod
    def missing(cls, binary):
        """The server."""
        server = binary.with_name(SERVER)
        if not server.is_file():
            return f"{server} does not exist: build it with `scripts/build.sh rivals`"
        return super().missing(binary)

    @classmethod
    def version(cls, _binary):
        """The library's, as our server is built with it."""
        found = LIBRARY.search(LOCK_FILE.read_text())
        return f"omnipaxos {found.group(1)}" if found else "unknown"

    def spoken(self):
        """Where the log lies makes no difference to a client."""
        return "omnipaxos"

    def command(self, node, home):
        """`omnipaxos-kv`."""
        return [
            str(self.binary.with_name(SERVER)),
            "--id", str(node),
            "--peers", ",".join(f"{n}={node_address(n)}:{PEER_PORT}" for n in self.nodes),
            "--clients", f"{node_address(node)}:{CLIENT_PORT}",
            "--storage", self.storage,
            "--data", str(home / "data"),
            "--election-timeout-ms", str(self.experiment.election_timeout_ms),
        ]  # fmt: skip

    def ready(self):
        """Whether all nodes answer and follow the same leader."""
        said = self._following()
        return len(said) == len(self.nodes) and len({it.leader for it in said.values()}) == 1

    def leads(self):
        """Of those that believe to lead, the one that most believe in."""
        said = self._following()
        believed = [it.leader for it in said.values()]
        leading = [node for node, it in said.items() if it.leads]
        return max(leading, key=believed.count, default=None)

    def progress(self):
        """Entries that are decided, and applied, which is the same turn."""
        return {node: it.decided for node, it in self._states().items()}

    def _following(self):
        """What those nodes say of themselves that follow a leader."""
        return {node: it for node, it in self._states().items() if it.leader}

    def _states(self):
        """What the running nodes that answer say of themselves, by node."""
        found = {}
        for node in self.running():
            try:
                found[node] = self._state(node)
            except OSError:
                continue
        return found

    def _state(self, node):
        with connect(self.star.clients[1], node_address(node), CLIENT_PORT) as connection:
            connection.sendall(GREETING + HEAD.pack(HEAD.size - 4, 0, ASK_STATE))
            told = b""
            while len(told) < len(GREETING) + HEAD.size + STATE.size:
                part = connection.recv(4096)
                if not part:
                    raise OSError(f"n{node} closed the connection")
                told += part
        _, _, kind = HEAD.unpack_from(told, len(GREETING))
        if not told.startswith(GREETING) or kind != TELL_STATE:
            raise OSError(f"n{node} answered {told[:16]!r}")
        _, leader, leads, decided = STATE.unpack_from(told, len(GREETING) + HEAD.size)
        return State(leader, bool(leads), decided)


class OmniPaxosDurable(OmniPaxos):
    """The same with a log that is synced."""

    name = "omnipaxos-durable"
    about = (
        "every entry is synced to disk at a majority before its reply, all of a turn with one "
        "sync; our server around the authors' library; clients keep connections to the leader"
    )
    storage = "durable"
    restarts = True
