"""Redis, as Debian has it: one node that syncs its log, the ceiling without replication."""

import shutil

from addresses import node_address
from netns import connect
from systems.base import output
from systems.rival import Rival

PORT = 6379


class Redis(Rival):
    """No consensus: what one durable node can do."""

    name = "redis"
    about = (
        "one node, no replication: every write is synced to its append-only file before its "
        "reply, all that arrived together with one sync"
    )
    client_port = PORT
    replicated = False
    installed_by = ("redis",)

    @classmethod
    def hosts(cls, _nodes):
        """One, whatever the others have."""
        return 1

    @classmethod
    def missing(cls, binary):
        """The server."""
        if not shutil.which("redis-server"):
            return "redis-server is not installed: `scripts/setup.sh redis` installs it"
        return super().missing(binary)

    @classmethod
    def version(cls, _binary):
        """As it says itself."""
        return "redis " + output(["redis-server", "--version"]).partition("v=")[2].split(" ")[0]

    def command(self, node, home):
        """A node that forgets nothing and does nothing else meanwhile."""
        return [
            "redis-server", "--bind", node_address(node), "--port", str(PORT),
            "--dir", str(home / "data"), "--save", "", "--appendonly", "yes",
            "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0",
            "--protected-mode", "no", "--daemonize", "no",
        ]  # fmt: skip

    def ready(self):
        """Whether it answers."""
        try:
            with connect(self.star.clients[1], node_address(1), PORT) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False

    def leads(self):
        """The only node, while it answers."""
        return 1 if self.ready() else None
