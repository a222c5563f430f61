"""OmniPaxos, by a key-value server around its published crate (`rivals/`)."""

from addresses import node_address
from systems.base import output
from systems.rival import Rival

SERVER = "omnipaxos-kv"
PEER_PORT = 7400
CLIENT_PORT = 7401


class OmniPaxos(Rival):
    """Sequence Paxos and ballot leader election, the log in memory."""

    name = "omnipaxos"
    about = (
        "the log is kept in memory only, not durable; a server written for this comparison around "
        "the crate; clients keep connections to the leader"
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
    def version(cls, binary):
        """As the server says it."""
        return output([str(binary.with_name(SERVER)), "--version"])

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


class OmniPaxosDurable(OmniPaxos):
    """The same with a log that is synced."""

    name = "omnipaxos-durable"
    about = (
        "every entry is synced to disk at a majority before its reply; a server written for this "
        "comparison around the crate; clients keep connections to the leader"
    )
    storage = "durable"
    restarts = True
