"""Redis: one node, which syncs its log before it replies."""

import socket
import subprocess

from loggos.bench.processes import free_ports, wait_for
from loggos.bench.systems.base import READY_S, System


class Redis(System):
    """No consensus: what one durable node can do, as a measure for three that agree."""

    name = "redis"
    label = "Redis (1 node)"

    def start(self) -> None:
        """One node that forgets nothing and does nothing else meanwhile."""
        (self.port,) = free_ports(1)
        command = [
            "redis-server", "--bind", "127.0.0.1", "--port", self.port, "--dir", self.dir,
            "--save", "", "--appendonly", "yes", "--appendfsync", "always",
            "--auto-aof-rewrite-percentage", "0", "--daemonize", "no",
        ]  # fmt: skip
        self.spawn(command, "redis")
        wait_for("Redis does not serve", self._serves, READY_S)

    def leader(self) -> str:
        """The only node."""
        return f"127.0.0.1:{self.port}"

    def version(self) -> str:
        """As it says itself."""
        out = subprocess.run(
            ["redis-server", "--version"], capture_output=True, text=True, check=False
        )
        return "Redis " + out.stdout.partition("v=")[2].split(" ")[0]

    def _serves(self) -> bool:
        self.check_alive()
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False
