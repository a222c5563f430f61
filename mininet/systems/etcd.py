"""etcd, as Debian has it."""

import os
import shutil

from addresses import node_address
from netns import post
from systems.base import output
from systems.rival import Rival

CLIENT_PORT = 2379
PEER_PORT = 2380
# Its own minimum is five heartbeats an election timeout.
HEARTBEATS = 10
HEARTBEATS_MIN = 5


class Etcd(Rival):
    """Raft, in Go."""

    name = "etcd"
    about = (
        "every write is synced to disk at a majority before its reply, several to a sync; clients "
        "speak gRPC to the leader, one stream for each operation under way"
    )
    client_port = CLIENT_PORT
    installed_by = ("etcd",)

    @classmethod
    def missing(cls, binary):
        """The server."""
        if not shutil.which("etcd"):
            return "etcd is not installed: `scripts/setup.sh etcd` installs it"
        return super().missing(binary)

    @classmethod
    def version(cls, _binary):
        """As it says itself."""
        return output(["etcd", "--version"]).partition("\n")[0]

    def environment(self):
        """Without settings of etcd's, which are somebody else's."""
        return {key: value for key, value in os.environ.items() if not key.startswith("ETCD_")}

    def command(self, node, home):
        """A member of a new cluster, or one that comes back."""
        timeout_ms = self.experiment.election_timeout_ms
        heartbeat_ms = max(1, timeout_ms // HEARTBEATS)
        own = node_address(node)
        members = (f"n{n}=http://{node_address(n)}:{PEER_PORT}" for n in self.nodes)
        return [
            "etcd", "--name", f"n{node}", "--data-dir", str(home / "data"),
            "--listen-client-urls", f"http://{own}:{CLIENT_PORT}",
            "--advertise-client-urls", f"http://{own}:{CLIENT_PORT}",
            "--listen-peer-urls", f"http://{own}:{PEER_PORT}",
            "--initial-advertise-peer-urls", f"http://{own}:{PEER_PORT}",
            "--initial-cluster", ",".join(members),
            "--initial-cluster-state", "new",
            "--election-timeout", str(max(timeout_ms, HEARTBEATS_MIN * heartbeat_ms)),
            "--heartbeat-interval", str(heartbeat_ms),
            "--logger", "zap", "--log-level", "warn",
        ]  # fmt: skip

    def ready(self):
        """Whether all members answer and follow the same leader."""
        said = self._status()
        return len(said) == len(self.nodes) and len({leader for _, leader in said.values()}) == 1

    def leads(self):
        """Of those that believe to lead, the one that most believe in."""
        said = self._status()
        believed = [leader for _, leader in said.values()]
        leading = [node for node, (member, leader) in said.items() if member == leader]
        return max(leading, key=lambda node: believed.count(said[node][0]), default=None)

    def progress(self):
        """Entries of Raft's log that are applied."""
        return {node: int(said["raftAppliedIndex"]) for node, said in self._answers().items()}

    def _status(self):
        """Who each running member is and whom it follows, by node; only of those that follow."""
        # A member that knows of no leader leaves it out.
        return {
            node: (said["header"]["member_id"], said["leader"])
            for node, said in self._answers().items()
            if said.get("leader", "0") != "0"
        }

    def _answers(self):
        """What the running members that answer say of themselves, by node."""
        found = {}
        for node in self.running():
            try:
                found[node] = post(
                    self.star.clients[1], node_address(node), CLIENT_PORT,
                    "/v3/maintenance/status", {},
                )  # fmt: skip
            except (OSError, ValueError):
                continue
        return found
