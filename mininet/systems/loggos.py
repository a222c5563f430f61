"""Loggos: how it is configured, asked, loaded and changed.

Each host has its own copy of the binary, of the configuration and of the data.
"""

import json
import shutil
import subprocess
import time
from dataclasses import dataclass, field

from addresses import node_address
from sandbox import die_with_parent
from systems.base import STOP_S, System, like_bench, like_probe, output
from well import agreed_leader

PEER_PORT = 7400
CLIENT_PORT = 7401
# What can be switched off: keys of [optimisations], and what a window of one slot does.
PIPELINING = "pipelining"
SWITCHES = ("batching", PIPELINING, "phase1_skip", "group_commit", "quorum_connected_election")


@dataclass(frozen=True)
class Setup:
    """How the nodes of a cluster differ from each other and from the defaults."""

    # Nodes that the cluster begins with; None: all hosts. The others may join.
    members: tuple[int, ...] | None = None
    # Sizes of phase-1 and phase-2 quorums; None: majorities.
    quorums: tuple[int, int] | None = None
    # Roles by node; all, where nothing is said.
    roles: dict = field(default_factory=dict)
    # By how much a sync takes longer, by node.
    slow_sync_ms: dict = field(default_factory=dict)
    # Length of the leader's lease; 0: none.
    lease_ms: int = 0
    # Which of SWITCHES are off.
    without: tuple[str, ...] = ()

    def __post_init__(self):
        unknown = [name for name in self.without if name not in SWITCHES]
        if unknown:
            raise ValueError(f"no optimisation {unknown[0]!r}; there are: {', '.join(SWITCHES)}")

    def roles_of(self, node):
        """A node's roles."""
        return self.roles.get(node, ("acceptor", "leader", "replica"))


EVERYBODY = Setup()


class Loggos(System):
    """Three roles in each node, a log on the disk, and snapshots beside it."""

    name = "loggos"
    about = (
        "every write is synced to disk at a quorum before its reply; what arrives while a sync "
        "runs shares the next one; clients keep connections to the leader"
    )

    client_port = CLIENT_PORT
    # It has things to finish.
    clean_exits = (0,)

    def __init__(self, experiment, star, binary, run_dir, setup=None):
        super().__init__(experiment, star, binary, run_dir, setup or EVERYBODY)
        self.nodes = list(self.setup.members or star.nodes)
        for node, slow_ms in self.setup.slow_sync_ms.items():
            if slow_ms:
                # -D: the node, not strace, is our child, so its id and exit code are its own.
                self.wrappers[node] = [
                    "strace", "-D", "-f", "-qq", "--seccomp-bpf", "-e", "trace=fdatasync",
                    "-e", f"inject=fdatasync:delay_exit={slow_ms * 1000}", "-o", "/dev/null",
                ]  # fmt: skip

    @classmethod
    def missing(cls, binary):
        """The binary."""
        if binary.is_file():
            return None
        return f"{binary} does not exist: build it with `make build`, or give --binary"

    @classmethod
    def version(cls, binary):
        """As the binary says it."""
        return output([str(binary), "--version"])

    # Deployment

    def deploy(self):
        """Directories, and a copy of the configuration for the reader."""
        super().deploy()
        shutil.copyfile(self.home(self.star.nodes[1]) / "loggos.toml", self.run_dir / "loggos.toml")

    def prepare(self, host, home):
        """A copy of the binary, and the configuration."""
        shutil.copy2(self.binary, home / "loggos")
        (home / "loggos.toml").write_text(self._config(home / "data", self.nodes))

    def _config(self, data, nodes, join=False):
        timing = self.experiment
        lines = [
            f'cluster = "{timing.name}"',
            f'data_dir = "{data}"',
            *(["join = true"] if join else []),
            "",
        ]
        for node in nodes:
            lines += [
                "[[nodes]]",
                f"id = {node}",
                f'peer_address = "{node_address(node)}:{PEER_PORT}"',
                f'client_address = "{node_address(node)}:{CLIENT_PORT}"',
            ]
            roles = ", ".join(f'"{role}"' for role in self.setup.roles_of(node))
            lines.append(f"roles = [{roles}]")
            lines.append("")
        if self.setup.quorums:
            phase1, phase2 = self.setup.quorums
            lines += ["[quorum]", f"phase1 = {phase1}", f"phase2 = {phase2}", ""]
        if self.setup.lease_ms:
            lines += ["[reads]", f"lease_ms = {self.setup.lease_ms}", ""]
        if PIPELINING in self.setup.without:
            lines += ["[limits]", "window_slots = 1", ""]
        switched_off = [f"{key} = false" for key in self.setup.without if key != PIPELINING]
        if switched_off:
            lines += ["[optimisations]", *switched_off, ""]
        lines += [
            "[timing]",
            f"election_timeout_ms = {timing.election_timeout_ms}",
            f"request_timeout_ms = {timing.request_timeout_ms}",
            "",
            "[wal]",
            f"segment_mib = {timing.segment_mib}",
            f"sync = {str(timing.sync).lower()}",
        ]
        return "\n".join(lines) + "\n"

    # Nodes

    def command(self, node, home):
        """`loggos serve`."""
        # A process that starts anew must not overwrite the trace of the one before it.
        part = "" if self.starts[node] == 1 else f"-{self.starts[node]}"
        command = [
            str(home / "loggos"), "serve",
            "--config", str(home / "loggos.toml"),
            "--node", str(node),
            "--log-level", "info",
        ]  # fmt: skip
        if self.experiment.node_traces:
            command += ["--trace", str(self.trace(f"n{node}{part}"))]
        return command

    def ready(self):
        """Whether every node answers and all name the same leader."""
        answers = self.status()
        leaders = {answer.get("leader") for answer in answers.values()}
        return len(answers) == len(self.nodes) and len(leaders) == 1 and None not in leaders

    def leads(self):
        """Of those that lead, the one with the highest ballot."""
        # During a change two may believe it; the higher ballot is right.
        leading = [said for said in self.status().values() if said.get("leading")]
        return max(leading, key=_ballot)["node"] if leading else None

    def progress(self):
        """The last slot applied."""
        return {node: said["applied"] for node, said in self.status().items()}

    def is_sure(self, node):
        """Whether a node knows all that its log may have lost."""
        return self.status().get(node, {}).get("unsure_slots") == 0

    def status(self):
        """What each reachable node says of itself, by id."""
        running = self.running()
        if not running:
            return {}
        host = self.star.clients[1]
        nodes = self.client_addresses(CLIENT_PORT, running)
        command = [str(self.home(host) / "loggos"), "status", "--nodes", nodes, "--json"]
        # Not one of `commands`: nobody wants to read of each question.
        process = host.popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
        out, _ = process.communicate(timeout=30)
        try:
            entries = json.loads(out or b"[]")
        except json.JSONDecodeError:
            return {}
        if isinstance(entries, dict):
            entries = entries.get("nodes", [entries])
        found = [entry.get("status") or entry for entry in entries]
        return {entry["node"]: entry for entry in found if isinstance(entry.get("node"), int)}

    def settle(self, timeout_s):
        """Waits until all replicas have applied the same and hold the same; returns what the nodes
        said."""
        replicas = [node for node in self.nodes if "replica" in self.setup.roles_of(node)]
        deadline = time.monotonic() + timeout_s
        answers = {}
        while time.monotonic() < deadline:
            self.check_alive()
            answers = self.status()
            states = {(s.get("applied"), s.get("digest"))
                      for node, s in answers.items() if node in replicas}  # fmt: skip
            if len(answers) == len(self.nodes) and len(states) == 1:
                return answers
            time.sleep(0.1)
        said = {f"n{n}": (s.get("applied"), s.get("digest")) for n, s in answers.items()}
        said |= {f"n{node}": "no answer" for node in self.nodes if node not in answers}
        raise RuntimeError(f"the nodes did not agree within {timeout_s} s: {said}")

    # Load

    def load_command(self, load, host, label, rate, seed, trace):
        """`loggos bench`."""
        return [
            *self._bench(host, load), "--nodes", self.client_addresses(CLIENT_PORT),
            *like_bench(self, load, label, rate, seed, trace),
        ]  # fmt: skip

    def probe_command(self, load, host, label, node):
        """`loggos bench`."""
        return [
            *self._bench(host, load), "--nodes", self.client_addresses(CLIENT_PORT, [node]),
            *like_probe(self, load, label, node),
        ]  # fmt: skip

    def well(self):
        """The leader, if all nodes answer, follow it, hear each other and are level."""
        return agreed_leader(self.status(), self.nodes)

    def bench_near(self, node, client, rate, seed, label, more=()):
        """Starts a load generator on that client host, which talks to this node and to no other;
        returns its process. `more` are further arguments."""
        load, host = self.experiment, self.star.clients[client]
        command = [
            *self._bench(host, load), "--nodes", f"{node_address(node)}:{CLIENT_PORT}",
            "--target", "spread",
            *like_bench(self, load, label, rate, seed, trace=True), *more,
        ]  # fmt: skip
        return self.spawn_load(host, label, command)

    def _bench(self, host, load):
        command = [str(self.home(host) / "loggos"), "bench", "--workload", load.workload]
        return [*command, "--check"] if load.check else command

    # Members

    def join(self, node):
        """Starts a node that asks the cluster to let it in."""
        home = self.home(self.star.nodes[node])
        config = self._config(home / "data", [node, *self.nodes], join=True)
        (home / "loggos.toml").write_text(config)
        self.nodes.append(node)
        self.start(node)

    def add_member(self, node):
        """Asks the cluster to let a node learn; returns the process."""
        address = node_address(node)
        addresses = ["--peer-address", f"{address}:{PEER_PORT}"]
        addresses += ["--client-address", f"{address}:{CLIENT_PORT}"]
        return self._member("add", str(node), *addresses)

    def replace_member(self, old, new):
        """Asks the cluster to put a node in the place of another one, once it has learned all;
        returns the process."""
        return self._member("replace", str(old), str(new), "--timeout", "60s")

    def _member(self, *words):
        host = self.star.clients[1]
        nodes = self.client_addresses(CLIENT_PORT, self.nodes)
        command = [str(self.home(host) / "loggos"), "member", *words, "--nodes", nodes]
        with open(self.run_dir / "logs" / "member.log", "ab") as log:
            return self.popen(host, command, stdout=log, stderr=log)

    def leave(self, node):
        """Ends a node that is no member any more."""
        self.expect_exit(node)
        self.processes[node].terminate()
        code = self.processes[node].wait(timeout=STOP_S)
        if code != 0:
            raise RuntimeError(f"n{node} ended with {code} at SIGTERM; {self._log(node)}")
        self.nodes.remove(node)
        del self.processes[node]

    # The disk

    def snapshot(self, node):
        """Has a node take a snapshot; returns the process, which prints one line of JSON."""
        host = self.star.clients[1]
        address = f"{node_address(node)}:{CLIENT_PORT}"
        command = [str(self.home(host) / "loggos"), "snapshot", "--nodes", address, "--json"]
        with open(self.run_dir / "logs" / f"snapshot-n{node}.log", "ab") as log:
            return self.popen(host, command, stdout=subprocess.PIPE, stderr=log)


def _ballot(status):
    """A ballot in the order of the protocol, however it is written."""
    ballot = status.get("ballot") or {}
    if isinstance(ballot, dict):
        return (ballot.get("round", 0), ballot.get("node", 0))
    return tuple(int(part) for part in str(ballot).split("."))
