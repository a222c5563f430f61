"""Loggos: nodes on loopback, with the defaults of the configuration unless a part says
otherwise."""

import json
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen

from loggos.bench.processes import Failed, free_ports, wait_for
from loggos.bench.systems.base import LOAD_MORE_S, READY_S, Load, Place, System, parse_report

# The line of a node's log that says that it has read its log and opened its doors.
SERVING = "serving as "


@dataclass
class Node:
    """One node: where it lives, and its process while it has one."""

    id: int
    home: Path
    address: str
    process: Popen | None = field(default=None)

    @property
    def log(self) -> Path:
        """Standard error of all its lives."""
        return self.home.with_suffix(".log")

    @property
    def pid(self) -> int:
        """Of the present process."""
        if self.process is None or self.process.poll() is not None:
            raise Failed(f"node {self.id} does not run")
        return self.process.pid

    def times_serving(self) -> int:
        """How often it has said that it serves."""
        return self.log.read_text(errors="replace").count(SERVING) if self.log.exists() else 0


class Loggos(System):
    """Multi-Paxos. `settings`: sections of the configuration that differ from the defaults."""

    name = "loggos"
    label = "Loggos"

    def __init__(
        self, place: Place, nodes: int = 3, settings: dict[str, dict[str, object]] | None = None
    ):
        super().__init__(place)
        self.count = nodes
        self.settings = settings or {}
        self.nodes: list[Node] = []

    def start(self) -> None:
        """All nodes, until they agree who leads."""
        ports = free_ports(2 * self.count)
        clients, peers = ports[: self.count], ports[self.count :]
        self.nodes = [
            Node(at, self.dir / f"n{at}", f"127.0.0.1:{port}") for at, port in enumerate(clients, 1)
        ]
        for node in self.nodes:
            node.home.mkdir()
            text = configuration(node, self.nodes, peers, self.settings)
            (node.home / "loggos.toml").write_text(text)
            self.start_node(node)
        self.wait_level()

    def start_node(self, node: Node) -> None:
        """Starts a node; does not wait for it."""
        command = [self.place.binary, "serve", "--config", node.home / "loggos.toml"]
        node.process = self.spawn(command, f"n{node.id}")

    def stop_node(self, node: Node) -> None:
        """Ends a node cleanly."""
        self.place.children.stop(node.process)
        self.processes.remove(node.process)

    def kill_node(self, node: Node) -> None:
        """SIGKILL."""
        node.process.send_signal(signal.SIGKILL)
        node.process.wait()
        self.processes.remove(node.process)

    def status(self) -> dict[int, dict]:
        """What each node that answers says of itself, by id."""
        out = subprocess.run(
            [self.place.binary, "status", "--json", "--nodes", self.addresses()],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=30,
        ).stdout  # fmt: skip
        return parse_status(out)

    def addresses(self) -> str:
        """Where clients reach the nodes."""
        return ",".join(node.address for node in self.nodes)

    def wait_level(self, timeout_s: float = READY_S) -> Node:
        """Waits until all nodes serve, name the same leader, hear each other and have applied the
        same; returns who leads."""

        def level() -> Node | None:
            self.check_alive()
            answers = self.status()
            leaders = {answer["leader"] for answer in answers.values()}
            applied = {answer["applied"] for answer in answers.values()}
            heard = all(peer["heard"] for answer in answers.values() for peer in answer["peers"])
            same = len(leaders) == len(applied) == 1 and None not in leaders
            if len(answers) < len(self.nodes) or not same or not heard:
                return None
            return self.nodes[leaders.pop() - 1]

        return wait_for("the nodes do not agree", level, timeout_s)

    def leader(self) -> str:
        """Where the node that leads serves."""
        return self.leading().address

    def leading(self) -> Node:
        """The node that leads."""

        def leads() -> Node | None:
            leading = [id for id, answer in self.status().items() if answer["leading"]]
            return self.nodes[leading[0] - 1] if len(leading) == 1 else None

        return wait_for("nobody leads", leads, READY_S)

    def bench(self, load: Load, duration_s: float, warmup_s: float, *more: object) -> Popen:
        """Starts the load generator; `report` waits for it."""
        command = [
            self.place.binary, "bench", "--nodes", self.addresses(),
            *load.options(duration_s, warmup_s),
            "--json", "-", "--quiet",
        ]  # fmt: skip
        if load.operation == "get":
            command += ["--reads", 1]
        if load.quorum:
            command += ["--consistency", "quorum", "--target", "spread"]
        if load.rate is not None:
            command += ["--rate", f"{load.rate:.3f}"]
        return self.place.children.begin([*command, *more])

    def report(self, process: Popen, duration_s: float) -> dict:
        """What a load generator of `bench` has to say, once it has ended."""
        return parse_report(self.place.children.end(process, duration_s + LOAD_MORE_S))

    def load(self, load: Load) -> dict:
        """By our own load generator, which finds the leader itself."""
        duration_s, warmup_s = self.place.duration_s, self.place.warmup_s
        return self.report(self.bench(load, duration_s, warmup_s), duration_s + warmup_s)

    def version(self) -> str:
        """As it says itself."""
        out = subprocess.run(
            [self.place.binary, "--version"], capture_output=True, text=True, check=False
        )
        return out.stdout.strip()


def configuration(
    node: Node, nodes: list[Node], peer_ports: list[int], settings: dict[str, dict[str, object]]
) -> str:
    """The configuration of one node."""
    lines = ['cluster = "bench"', f"node = {node.id}", f'data_dir = "{node.home / "data"}"', ""]
    for each, port in zip(nodes, peer_ports, strict=True):
        lines += [
            "[[nodes]]",
            f"id = {each.id}",
            f'peer_address = "127.0.0.1:{port}"',
            f'client_address = "{each.address}"',
            "",
        ]
    for section, keys in settings.items():
        lines += [f"[{section}]", *(f"{key} = {value}" for key, value in keys.items()), ""]
    return "\n".join(lines)


def parse_status(out: str) -> dict[int, dict]:
    """The answers in the output of `loggos status --json`, by node."""
    try:
        entries = json.loads(out)["nodes"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return {}
    return {entry["node"]: entry for entry in entries if "node" in entry}
