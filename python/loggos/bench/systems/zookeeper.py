"""ZooKeeper: three servers that sync their logs, as they do by default."""

import socket

from loggos.bench.processes import free_ports, wait_for
from loggos.bench.systems.base import READY_S, System

JAR = "/usr/share/java/zookeeper.jar"
LOG4J = """log4j.rootLogger=WARN, console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%d %p %m%n
"""


class ZooKeeper(System):
    """Zab, in Java. Its reads are those of the asked server, here the leader: cheaper than
    linearizable."""

    name = "zookeeper"
    label = "ZooKeeper"

    def start(self) -> None:
        """Three servers of one ensemble."""
        ports = free_ports(9)
        self.clients = ports[:3]
        servers = [
            f"server.{at}=127.0.0.1:{quorum}:{election}"
            for at, (quorum, election) in enumerate(zip(ports[3:6], ports[6:], strict=True), 1)
        ]
        for at, client in enumerate(self.clients, 1):
            home = self.dir / f"n{at}"
            home.mkdir()
            (home / "myid").write_text(f"{at}\n")
            (home / "log4j.properties").write_text(LOG4J)
            lines = [
                "tickTime=2000", "initLimit=10", "syncLimit=5", f"dataDir={home}",
                "clientPortAddress=127.0.0.1", f"clientPort={client}", "maxClientCnxns=0",
                "admin.enableServer=false", "4lw.commands.whitelist=srvr", *servers,
            ]  # fmt: skip
            (home / "zoo.cfg").write_text("\n".join(lines) + "\n")
            command = [
                "java", "-Xmx1g", "-Dzookeeper.jmx.log4j.disable=true", "-cp", f"{home}:{JAR}",
                "org.apache.zookeeper.server.quorum.QuorumPeerMain", home / "zoo.cfg",
            ]  # fmt: skip
            self.spawn(command, f"n{at}")
        self.leader()

    def leader(self) -> str:
        """Where the server that leads serves."""
        return wait_for("ZooKeeper has no leader", self._leader, READY_S)

    def version(self) -> str:
        """As a server says; it has to run."""
        words = self._ask(self.clients[0]).partition("version: ")[2]
        return "ZooKeeper " + words.split("-")[0].split(",")[0]

    def _leader(self) -> str | None:
        self.check_alive()
        answers = {port: self._ask(port) for port in self.clients}
        leading = [port for port, answer in answers.items() if "Mode: leader" in answer]
        ready = all("Mode: " in answer for answer in answers.values())
        return f"127.0.0.1:{leading[0]}" if ready and leading else None

    @staticmethod
    def _ask(port: int) -> str:
        """What a server answers to `srvr`; nothing if it is not up."""
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
                connection.sendall(b"srvr")
                parts = iter(lambda: connection.recv(4096), b"")
                return b"".join(parts).decode(errors="replace")
        except OSError:
            return ""
