"""etcd: three members with its defaults."""

import json
import os
import subprocess
import urllib.request

from loggos.bench.processes import free_ports, wait_for
from loggos.bench.systems.base import READY_S, System

# Whatever the environment says of proxies: loopback needs none.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Etcd(System):
    """Raft, in Go."""

    name = "etcd"
    label = "etcd"

    def start(self) -> None:
        """Three members of one new cluster."""
        ports = free_ports(6)
        self.clients, peers = ports[:3], ports[3:]
        cluster = ",".join(f"n{at}=http://127.0.0.1:{port}" for at, port in enumerate(peers))
        for at, (client, peer) in enumerate(zip(self.clients, peers, strict=True)):
            client_url, peer_url = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
            command = [
                # Settings of the environment are somebody else's.
                "env", *(f"--unset={name}" for name in os.environ if name.startswith("ETCD_")),
                "etcd", "--name", f"n{at}", "--data-dir", self.dir / f"n{at}",
                "--listen-client-urls", client_url, "--advertise-client-urls", client_url,
                "--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url,
                "--initial-cluster", cluster, "--initial-cluster-state", "new",
            ]  # fmt: skip
            self.spawn(command, f"n{at}")
        wait_for("etcd has no leader", self._leader, READY_S)

    def leader(self) -> str:
        """Where the member that leads serves."""
        return wait_for("etcd has no leader", self._leader, READY_S)

    def version(self) -> str:
        """As it says itself."""
        out = subprocess.run(["etcd", "--version"], capture_output=True, text=True, check=False)
        return "etcd " + out.stdout.splitlines()[0].rpartition(" ")[2]

    def _leader(self) -> str | None:
        """The leader's address, once all members agree who that is."""
        self.check_alive()
        try:
            answers = {port: _status(port) for port in self.clients}
        except (OSError, ValueError, KeyError):
            return None
        leaders = {leader for _, leader in answers.values()}
        leading = [port for port, (member, leader) in answers.items() if member == leader]
        return f"127.0.0.1:{leading[0]}" if len(leaders) == 1 and leading else None


def _status(port: int) -> tuple[str, str]:
    """Who a member is, and whom it follows."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v3/maintenance/status", data=b"{}")
    with _opener.open(request, timeout=2) as answer:
        status = json.load(answer)
    return status["header"]["member_id"], status["leader"]
