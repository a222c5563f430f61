"""How to deploy, start, ask, load and stop Loggos on the hosts of a star.

Each host has a directory of its own with its own copy of the binary, the configuration and the
data, as on real machines. Processes are started with a list and without a shell, so that the
process id is the server's.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sandbox import die_with_parent
from topology import node_address

PEER_PORT = 7400
CLIENT_PORT = 7401
READY_S = 20
STOP_S = 15


@dataclass(frozen=True)
class Command:
    """A command that was run on a host; `as_json` once it has ended."""

    process: subprocess.Popen
    host: str
    line: list
    run_dir: Path

    def as_json(self):
        """Where, what, and with which exit code it ended."""
        # Where the run's folder lay says nothing about the run, and it may be moved.
        line = [part.replace(str(self.run_dir), "RUN") for part in self.line]
        return {"host": self.host, "command": " ".join(line), "exit": self.process.poll()}


@dataclass(frozen=True)
class Setup:
    """How the nodes of a cluster differ from each other and from the defaults."""

    # Nodes that the cluster begins with; None: all hosts. The others may join.
    members: tuple[int, ...] | None = None
    # Sizes of phase-1 and phase-2 quorums; None: majorities.
    quorums: tuple[int, int] | None = None
    # Nodes that may lead; None: all.
    leaders: tuple[int, ...] | None = None
    # By how much a sync takes longer, by node.
    slow_sync_ms: dict = field(default_factory=dict)
    # Length of the leader's lease; 0: none.
    lease_ms: int = 0


EVERYBODY = Setup()


class Loggos:
    """One cluster. `commands` collects every command with its exit code, for the metadata."""

    def __init__(self, experiment, star, binary, run_dir, setup):
        self.experiment = experiment
        self.setup = setup
        self.star = star
        self.run_dir = run_dir
        self.binary = binary
        self.nodes = list(setup.members or star.nodes)
        self.processes = {}
        self.starts = {node: 0 for node in star.nodes}
        self.expected_exits = set()
        self.paused = set()
        self.commands = []
        # Processes, by name, without which the network is not what it should be.
        self.helpers = {}

    # Deployment

    def deploy(self):
        """Copies binary and configuration to each host's directory."""
        for host in self.star.hosts():
            home = self._home(host)
            (home / "data").mkdir(parents=True)
            shutil.copy2(self.binary, home / "loggos")
            (home / "loggos.toml").write_text(self._config(home / "data", self.nodes))
        shutil.copyfile(
            self._home(self.star.nodes[1]) / "loggos.toml", self.run_dir / "loggos.toml"
        )
        for folder in ("logs", "traces", "status"):
            (self.run_dir / folder).mkdir()

    def _home(self, host):
        return self.run_dir / "hosts" / host.name

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
            if self.setup.leaders and node not in self.setup.leaders:
                lines.append('roles = ["acceptor", "replica"]')
            lines.append("")
        if self.setup.quorums:
            phase1, phase2 = self.setup.quorums
            lines += ["[quorum]", f"phase1 = {phase1}", f"phase2 = {phase2}", ""]
        if self.setup.lease_ms:
            lines += ["[reads]", f"lease_ms = {self.setup.lease_ms}", ""]
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

    def start(self, node):
        """Starts a node; does not wait for it."""
        host = self.star.nodes[node]
        home = self._home(host)
        self.starts[node] += 1
        # A process that starts anew must not overwrite the trace of the one before it.
        part = "" if self.starts[node] == 1 else f"-{self.starts[node]}"
        command = [
            str(home / "loggos"), "serve",
            "--config", str(home / "loggos.toml"),
            "--node", str(node),
            "--log-level", "info",
        ]  # fmt: skip
        if self.experiment.node_traces:
            command += ["--trace", str(self.run_dir / "traces" / f"{host.name}{part}.trace")]
        slow_ms = self.setup.slow_sync_ms.get(node, 0)
        if slow_ms:
            # -D: the node, not strace, is our child, so its id and exit code are its own.
            command = [
                "strace", "-D", "-f", "-qq", "--seccomp-bpf", "-e", "trace=fdatasync",
                "-e", f"inject=fdatasync:delay_exit={slow_ms * 1000}", "-o", "/dev/null", *command,
            ]  # fmt: skip
        self.expected_exits.discard(node)
        with open(self._log(node), "ab") as log:
            self.processes[node] = self._popen(host, command, stdout=log, stderr=log, cwd=home)

    def start_all(self):
        """Starts every node, and waits until all of them serve."""
        for node in self.nodes:
            self.start(node)
        self.wait_ready()

    def wait_ready(self):
        """Waits until every node answers and all name the same leader."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            self.check_alive()
            answers = self.status()
            leaders = {answer.get("leader") for answer in answers.values()}
            if len(answers) == len(self.nodes) and len(leaders) == 1 and None not in leaders:
                return
            time.sleep(0.1)
        raise RuntimeError(f"the nodes were not ready within {READY_S} s; logs: {self._logs()}")

    def running(self):
        """The nodes whose process runs, paused ones left out."""
        alive = [n for n in self.nodes if n in self.processes and self.processes[n].poll() is None]
        return [node for node in alive if node not in self.paused]

    def pid(self, node):
        """The process id of a node's server."""
        return self.processes[node].pid

    def expect_exit(self, node):
        """Says that a node's process is about to end, so that nobody takes it for a crash."""
        self.expected_exits.add(node)

    def check_alive(self):
        """Raises if a node ended that nobody killed, or what the network needs."""
        for name, process in self.helpers.items():
            if process.poll() is not None:
                raise RuntimeError(f"the {name} ended with {process.returncode}")
        for node, process in self.processes.items():
            if process.poll() is not None and node not in self.expected_exits:
                raise RuntimeError(
                    f"n{node} ended with {process.returncode}; its log {self._log(node)} ends:\n"
                    + self._tail(self._log(node))
                )

    def status(self):
        """What each reachable node says of itself, by id."""
        nodes = ",".join(f"{node_address(n)}:{CLIENT_PORT}" for n in self.running())
        if not nodes:
            return {}
        host = self.star.clients[1]
        command = [str(self._home(host) / "loggos"), "status", "--nodes", nodes, "--json"]
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

    def leader(self):
        """The node that leads now; waits a moment if there is none."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            # During a change two may believe it; the higher ballot is right.
            leading = [s for s in self.status().values() if s.get("leading")]
            if leading:
                return max(leading, key=_ballot)["node"]
            time.sleep(0.02)
        raise RuntimeError(f"nobody leads; logs: {self._logs()}")

    def wait_equal(self, timeout_s):
        """Waits until all nodes have applied the same and hold the same; returns what they said."""
        deadline = time.monotonic() + timeout_s
        answers = {}
        while time.monotonic() < deadline:
            self.check_alive()
            answers = self.status()
            states = {(s.get("applied"), s.get("digest")) for s in answers.values()}
            if len(answers) == len(self.nodes) and len(states) == 1:
                return answers
            time.sleep(0.1)
        said = {f"n{n}": (s.get("applied"), s.get("digest")) for n, s in answers.items()}
        said |= {f"n{node}": "no answer" for node in self.nodes if node not in answers}
        raise RuntimeError(f"the nodes did not agree within {timeout_s} s: {said}")

    # Load

    def bench(self, rate, seed, name, trace, load=None, more=()):
        """Starts a load generator on each client host; returns their processes by label. `load` is
        an experiment that says what it does, if that is another one than the cluster's; `more` are
        further arguments."""
        experiment, started = load or self.experiment, {}
        for number, host in self.star.clients.items():
            label = f"{name}-{host.name}"
            arguments = [
                "--nodes", ",".join(f"{node_address(n)}:{CLIENT_PORT}" for n in self.star.nodes),
                "--duration", f"{experiment.duration_s}s",
                "--warmup", f"{experiment.warmup_s}s",
                "--seed", str(seed + number),
                *more,
            ]  # fmt: skip
            if rate:
                arguments += ["--rate", str(rate / len(self.star.clients)), "--arrivals", "poisson"]
            started[label] = self._bench(host, label, arguments, trace, experiment)
        return started

    def attach(self, node):
        """Starts a load generator that talks to this node and to no other, until it is told to end;
        returns its label and process. Operations are due at equal distances."""
        label = f"bench-n{node}"
        arguments = [
            "--nodes", f"{node_address(node)}:{CLIENT_PORT}",
            "--target", "spread",
            "--duration", "24h",
            "--warmup", "0s",
            "--seed", str(self.experiment.seed + node),
            "--rate", str(self.experiment.rate),
            "--arrivals", "uniform",
        ]  # fmt: skip
        return label, self._bench(self.star.clients[1], label, arguments, True, self.experiment)

    def bench_near(self, node, client, rate, seed, label, more=()):
        """Starts a load generator on that client host, which talks to this node and to no other;
        returns its process. `more` are further arguments."""
        experiment = self.experiment
        arguments = [
            "--nodes", f"{node_address(node)}:{CLIENT_PORT}",
            "--target", "spread",
            "--duration", f"{experiment.duration_s}s",
            "--warmup", f"{experiment.warmup_s}s",
            "--seed", str(seed),
            "--rate", str(rate),
            "--arrivals", "poisson",
            *more,
        ]  # fmt: skip
        return self._bench(self.star.clients[client], label, arguments, True, experiment)

    def _bench(self, host, label, arguments, trace, experiment):
        command = [
            str(self._home(host) / "loggos"), "bench", *arguments,
            "--clients", str(experiment.clients),
            "--in-flight", str(experiment.in_flight),
            "--op-timeout", f"{experiment.op_timeout_ms}ms",
            "--keys", str(experiment.keys),
            "--value-size", str(experiment.value_size),
            "--reads", str(experiment.reads),
            "--workload", experiment.workload,
            "--json", str(self.run_dir / f"{label}.json"),
            "--quiet",
        ]  # fmt: skip
        if experiment.check:
            command.append("--check")
        if trace:
            command += ["--trace", str(self.run_dir / "traces" / f"{label}.trace")]
        if experiment.histories:
            command += ["--history", str(self.history(label))]
        with open(self.run_dir / "logs" / f"{label}.log", "ab") as log:
            return self._popen(host, command, stdout=log, stderr=log)

    def history(self, label):
        """Where a load generator records what its operations asked and were told."""
        return self.run_dir / "traces" / f"{label}.history"

    def log_tail(self, label):
        """The last lines of a log and where it is."""
        path = self.run_dir / "logs" / f"{label}.log"
        return f"{path} ends:\n{self._tail(path)}"

    def log_lines(self, node):
        """What a node has said in its present life and those before it."""
        return self._log(node).read_text(errors="replace").splitlines()

    # Members

    def join(self, node):
        """Starts a node that asks the cluster to let it in."""
        home = self._home(self.star.nodes[node])
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
        nodes = ",".join(f"{node_address(n)}:{CLIENT_PORT}" for n in self.nodes)
        command = [str(self._home(host) / "loggos"), "member", *words, "--nodes", nodes]
        with open(self.run_dir / "logs" / "member.log", "ab") as log:
            return self._popen(host, command, stdout=log, stderr=log)

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
        command = [str(self._home(host) / "loggos"), "snapshot", "--nodes", address, "--json"]
        with open(self.run_dir / "logs" / f"snapshot-n{node}.log", "ab") as log:
            return self._popen(host, command, stdout=subprocess.PIPE, stderr=log)

    def disk_bytes(self, node):
        """What a node's data directory takes on the disk, in bytes."""
        total = 0
        for path in (self._home(self.star.nodes[node]) / "data").rglob("*"):
            # What is listed may be gone a moment later.
            with suppress(FileNotFoundError):
                total += path.stat().st_blocks * 512
        return total

    # End

    def kill(self, node):
        """SIGKILL, and waits until it is gone."""
        self.expect_exit(node)
        os.kill(self.pid(node), signal.SIGKILL)
        self.processes[node].wait()

    def stop(self):
        """Ends the nodes cleanly (SIGTERM); raises if one does not."""
        for node in sorted(self.paused):
            os.kill(self.pid(node), signal.SIGCONT)
        self.paused.clear()
        for node in self.running():
            self.expect_exit(node)
            self.processes[node].terminate()
        for node, process in self.processes.items():
            try:
                code = process.wait(timeout=STOP_S)
            except subprocess.TimeoutExpired:
                raise RuntimeError(
                    f"n{node} did not end within {STOP_S} s of SIGTERM; log: {self._log(node)}"
                ) from None
            if code not in (0, -signal.SIGKILL):
                raise RuntimeError(f"n{node} ended with {code} at SIGTERM; {self._log(node)}")

    def kill_all(self):
        """Ends every process that still runs, whatever state it is in."""
        for command in self.commands:
            if command.process.poll() is None:
                command.process.kill()
        for command in self.commands:
            command.process.wait()

    def _popen(self, host, command, **kwargs):
        process = host.popen(
            command, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent, **kwargs
        )
        self.commands.append(Command(process, host.name, command, self.run_dir))
        return process

    def _log(self, node):
        return self.run_dir / "logs" / f"n{node}.log"

    def _logs(self):
        return self.run_dir / "logs"

    @staticmethod
    def _tail(path, lines=8):
        try:
            return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
        except OSError as error:
            return f"(no log: {error})"


def _ballot(status):
    """A ballot in the order of the protocol, however it is written."""
    ballot = status.get("ballot") or {}
    if isinstance(ballot, dict):
        return (ballot.get("round", 0), ballot.get("node", 0))
    return tuple(int(part) for part in str(ballot).split("."))
