"""What all systems under test share: their processes on the hosts of a star.

An adapter is a subclass in a file of its own, and a line in `known.py`. It says how a host is
prepared, which command a node is, when all is ready, who leads, how it is loaded, and what its
numbers include. It must be importable where Mininet is not installed.

Each host has a directory of its own with the system's data, as on real machines. Processes are
started with a list and without a shell, so that the process id is the server's.
"""

import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from addresses import node_address
from netns import connect
from sandbox import die_with_parent

READY_S = 30
# And so many election timeouts, of which a first leader may need several.
READY_TIMEOUTS = 10
STOP_S = 15
# And so many election timeouts: etcd's leader tries to hand over for two of them.
STOP_TIMEOUTS = 3
LEADER_S = 10


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


class System:
    """One cluster. `commands` collects every command with its exit code, for the metadata."""

    name = ""
    # What its numbers include: durability, batching, the way of a client. For the reader.
    about = ""
    # Whether there are followers, whether its load generator keeps to a rate and records every
    # operation, and whether a node that was killed may take part again: which comparisons it suits.
    replicated = True
    open_loop = True
    restarts = True
    # Whether it is another one of these with its roles in processes of their own.
    split = False
    # Where its nodes listen for clients.
    client_port = 0
    # Parts of scripts/setup.sh and of scripts/build.sh that it needs.
    installed_by = ()
    built_by = ()
    # Exit codes of a node that was told to end; many let the signal do it.
    clean_exits = (0, -signal.SIGTERM)
    # Exit code of a load generator that ended well.
    load_exit = 0

    def __init__(self, experiment, star, binary, run_dir, setup=None):
        self.experiment = experiment
        self.setup = setup
        self.star = star
        self.run_dir = run_dir
        self.binary = binary
        self.nodes = list(star.nodes)
        self.processes = {}
        # What stands before a node's command, by node.
        self.wrappers = {}
        self.starts = {node: 0 for node in star.nodes}
        self.expected_exits = set()
        self.paused = set()
        self.commands = []
        # Processes, by name, without which the network is not what it should be.
        self.helpers = {}

    # What an adapter says

    @classmethod
    def hosts(cls, nodes):
        """How many hosts a cluster of so many nodes takes."""
        return nodes

    @classmethod
    def missing(cls, binary):
        """One line that says what is missing here and how to get it; None if nothing is."""
        raise NotImplementedError

    @classmethod
    def version(cls, binary):
        """What it calls itself."""
        raise NotImplementedError

    def prepare(self, host, home):
        """Puts what a host needs into its directory."""

    def command(self, node, home):
        """The command of a node."""
        raise NotImplementedError

    def environment(self):
        """The variables that its processes see; None: ours."""
        return None

    def ready(self):
        """Whether all nodes serve and agree on who leads."""
        raise NotImplementedError

    def leads(self):
        """The node that leads now, None if there is none."""
        raise NotImplementedError

    def load_command(self, load, host, label, rate, seed, trace):
        """The command of a load generator: `load` is an experiment that says what it does, `rate`
        operations a second or None for a closed loop. It writes RUN/`label`.json in the end."""
        raise NotImplementedError

    def probe_command(self, load, host, label, node):
        """The command of a load generator that talks to this node and to no other, until it is told
        to end; operations are due at equal distances."""
        raise NotImplementedError

    def well(self):
        """The leader, if all nodes agree on it, and are as far as each other where they can tell;
        else None."""
        return self.leads() if self.ready() else None

    def accepts(self, node):
        """Whether a node takes connections of clients."""
        try:
            connect(self.star.clients[1], node_address(node), self.client_port).close()
        except OSError:
            return False
        return True

    def progress(self):
        """How much of the log each node has applied that answers, by node."""
        raise NotImplementedError

    def load_ended(self, label):
        """Called once a load generator has ended well."""

    def settle(self, _timeout_s):
        """Waits until all nodes hold the same, where they can tell; returns what they said."""
        self.check_alive()
        return {}

    # Deployment

    def deploy(self):
        """Prepares each host's directory."""
        for folder in ("logs", "traces", "status"):
            (self.run_dir / folder).mkdir()
        for host in self.star.hosts():
            home = self.home(host)
            (home / "data").mkdir(parents=True)
            self.prepare(host, home)

    def home(self, host):
        """A host's directory."""
        return self.run_dir / "hosts" / host.name

    # Nodes

    def start(self, node):
        """Starts a node; does not wait for it."""
        host = self.star.nodes[node]
        home = self.home(host)
        self.starts[node] += 1
        command = [*self.wrappers.get(node, ()), *self.command(node, home)]
        self.expected_exits.discard(node)
        with open(self._log(node), "ab") as log:
            self.processes[node] = self.popen(
                host, command, stdout=log, stderr=log, cwd=home, env=self.environment()
            )

    def start_all(self):
        """Starts every node, and waits until all of them serve."""
        for node in self.nodes:
            self.start(node)
        self.wait_ready()

    def wait_ready(self):
        """Waits until all nodes serve and agree on who leads."""
        limit_s = READY_S + READY_TIMEOUTS * self.experiment.election_timeout_ms / 1000
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            self.check_alive()
            if self.ready():
                return
            time.sleep(0.1)
        raise RuntimeError(f"the nodes were not ready within {limit_s:g} s; logs: {self.logs()}")

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

    def leader(self):
        """The node that leads now; waits a moment if there is none."""
        deadline = time.monotonic() + LEADER_S
        while time.monotonic() < deadline:
            node = self.leads()
            if node is not None:
                return node
            time.sleep(0.02)
        raise RuntimeError(f"nobody leads; logs: {self.logs()}")

    def followers(self):
        """The running nodes that do not lead, in the order in which a schedule takes them."""
        leader = self.leader()
        return [node for node in self.running() if node != leader]

    # Load

    def bench(self, rate, seed, name, trace, load=None, more=()):
        """Starts a load generator on each client host; returns their processes by label. `load` is
        an experiment that says what it does, if that is another one than the cluster's; `more` are
        further arguments."""
        started = {}
        for number, host in self.star.clients.items():
            label = f"{name}-{host.name}"
            each = rate / len(self.star.clients) if rate else None
            command = self.load_command(
                load or self.experiment, host, label, each, seed + number, trace
            )
            started[label] = self.spawn_load(host, label, [*command, *more])
        return started

    def attach(self, node):
        """Starts a load generator for a node alone, which traces each operation; returns its label
        and process."""
        label, host = f"bench-n{node}", self.star.clients[1]
        command = self.probe_command(self.experiment, host, label, node)
        return label, self.spawn_load(host, label, command)

    def spawn_load(self, host, label, command):
        """Starts a load generator that logs to its own file."""
        with open(self.run_dir / "logs" / f"{label}.log", "ab") as log:
            return self.popen(host, command, stdout=log, stderr=log)

    def history(self, label):
        """Where a load generator records what its operations asked and were told."""
        return self.run_dir / "traces" / f"{label}.history"

    def trace(self, label):
        """Where a load generator records when its operations ended."""
        return self.run_dir / "traces" / f"{label}.trace"

    def client_addresses(self, port, nodes=None):
        """Where clients reach these nodes, or all."""
        return ",".join(f"{node_address(n)}:{port}" for n in nodes or self.star.nodes)

    def disk_bytes(self, node):
        """What a node's data directory takes on the disk, in bytes."""
        total = 0
        for path in (self.home(self.star.nodes[node]) / "data").rglob("*"):
            # What is listed may be gone a moment later.
            with suppress(FileNotFoundError):
                total += path.stat().st_blocks * 512
        return total

    def log_tail(self, label):
        """The last lines of a log and where it is."""
        path = self.run_dir / "logs" / f"{label}.log"
        return f"{path} ends:\n{self._tail(path)}"

    def log_lines(self, node):
        """What a node has said in its present life and those before it."""
        return self._log(node).read_text(errors="replace").splitlines()

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
        limit_s = STOP_S + STOP_TIMEOUTS * self.experiment.election_timeout_ms / 1000
        for node, process in self.processes.items():
            try:
                code = process.wait(timeout=limit_s)
            except subprocess.TimeoutExpired:
                raise RuntimeError(
                    f"n{node} did not end within {limit_s:g} s of SIGTERM; log: {self._log(node)}"
                ) from None
            if code not in (*self.clean_exits, -signal.SIGKILL):
                raise RuntimeError(f"n{node} ended with {code} at SIGTERM; {self._log(node)}")

    def kill_all(self):
        """Ends every process that still runs, whatever state it is in."""
        for command in self.commands:
            if command.process.poll() is None:
                command.process.kill()
        for command in self.commands:
            command.process.wait()

    def popen(self, host, command, **kwargs):
        """Starts a process on a host, to be known from now on."""
        process = host.popen(
            command, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent, **kwargs
        )
        self.commands.append(Command(process, host.name, command, self.run_dir))
        return process

    def logs(self):
        """The folder of all logs."""
        return self.run_dir / "logs"

    def _log(self, node):
        return self.run_dir / "logs" / f"n{node}.log"

    @staticmethod
    def _tail(path, lines=8):
        try:
            return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
        except OSError as error:
            return f"(no log: {error})"


def like_bench(system, load, label, rate, seed, trace):
    """The arguments that `loggos bench` and `rival-load` have in common, but for the nodes."""
    return [
        "--duration", f"{load.duration_s}s",
        "--warmup", f"{load.warmup_s}s",
        "--seed", str(seed),
        *(["--rate", str(rate), "--arrivals", "poisson"] if rate else []),
        *shape_of(load),
        *recording(system, load, label, trace),
    ]  # fmt: skip


def like_probe(system, load, label, node):
    """The same for a load generator of one node."""
    return [
        "--target", "spread",
        "--duration", "24h",
        "--warmup", "0s",
        "--seed", str(load.seed + node),
        "--rate", str(load.rate),
        "--arrivals", "uniform",
        *shape_of(load),
        *recording(system, load, label, trace=True),
    ]  # fmt: skip


def shape_of(load):
    """What a load generator does, but for when."""
    return [
        "--clients", str(load.clients),
        "--in-flight", str(load.in_flight),
        "--op-timeout", f"{load.op_timeout_ms}ms",
        "--keys", str(load.keys),
        "--value-size", str(load.value_size),
        "--reads", str(load.reads),
    ]  # fmt: skip


def recording(system, load, label, trace):
    """What a load generator writes."""
    arguments = ["--json", str(system.run_dir / f"{label}.json"), "--quiet"]
    if trace:
        arguments += ["--trace", str(system.trace(label))]
    if load.histories:
        arguments += ["--history", str(system.history(label))]
    return arguments


def output(command):
    """What a command prints, or `unknown`."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except OSError:
        return "unknown"
    if done.returncode != 0:
        return "unknown"
    return done.stdout.strip() or done.stderr.strip()
