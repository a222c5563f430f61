"""libpaxos3, as the user has built it: `LIBPAXOS_DIR` is the directory of the build.

Its sample client keeps some values under way and prints, once a second, how many were delivered
and their least, greatest and mean latency. It knows no rates and no percentiles, so that libpaxos
is compared in closed loops only, and by its mean.
"""

import json
import os
import re
from pathlib import Path

from addresses import node_address
from systems.base import System

PORT = 8800
DIRECTORY = "LIBPAXOS_DIR"
PROGRAMS = ("replica", "client")
# In the order in which a build of its own has them.
PLACES = ("sample", "bin", ".")
SECOND = re.compile(
    r"^(\d+) value/sec, [\d.]+ Mbps, latency min (\d+) us max (\d+) us avg (\d+) us"
)
# What `timeout` ends with when it had to end the client, which does not end by itself.
TIMED_OUT = 124
# In the kernel's table of connections.
ESTABLISHED = "01"


class Libpaxos(System):
    """Multi-Paxos in C; phase 1 for each instance, ahead of it."""

    name = "libpaxos"
    about = (
        "kept in memory only, not durable; values are delivered, not applied to a store; one "
        "connection to one proposer, a closed loop; latency is the mean, its client tells no other"
    )
    open_loop = False
    restarts = False
    load_exit = TIMED_OUT
    storage = ("storage-backend memory",)

    @classmethod
    def missing(cls, _binary):
        """The build."""
        if not os.environ.get(DIRECTORY):
            return (
                f"{DIRECTORY} is not given: build libpaxos3 (cmake, make) and give the directory "
                f"of the build, {DIRECTORY}=/path/to/libpaxos/build"
            )
        absent = [name for name in PROGRAMS if not program(name)]
        if absent:
            places = ", ".join(PLACES)
            return (
                f"{DIRECTORY}={os.environ[DIRECTORY]} has no {' and no '.join(absent)} "
                f"(looked in {places}): is it the directory of a build?"
            )
        return None

    @classmethod
    def version(cls, _binary):
        """It has no number of its own."""
        return "libpaxos3, a build of the user's"

    def prepare(self, host, home):
        """The configuration; the same everywhere but for the place of the data."""
        replicas = [f"replica {n - 1} {node_address(n)} {PORT}" for n in self.nodes]
        storage = [line.format(data=home / "data") for line in self.storage]
        text = "\n".join([*replicas, "verbosity error", *storage]) + "\n"
        (home / "paxos.conf").write_text(text)

    def command(self, node, home):
        """Acceptor, proposer and learner in one."""
        return [str(program("replica")), str(node - 1), str(home / "paxos.conf")]

    def ready(self):
        """Whether all are connected to all; who came too early tries again two seconds later."""
        return all(self._acceptors(node) == len(self.nodes) for node in self.nodes)

    def leads(self):
        """Any proposer may propose; the client is told to use this one."""
        return self.nodes[0]

    def load_command(self, load, host, label, rate, seed, trace):
        """The sample client, ended by SIGINT after warm-up and load."""
        if rate or load.reads:
            raise ValueError("libpaxos is loaded in a closed loop of writes only")
        home = self.home(host)
        (self.run_dir / f"{label}.load").write_text(
            json.dumps({"warmup_s": load.warmup_s, **_parameters(load)})
        )
        return [
            # The last second is printed a moment after it is over. The client frees what it still
            # uses when it is told to end, so that each line must be out before.
            "timeout", "--signal=INT", f"{load.warmup_s + load.duration_s + 0.5}s",
            "stdbuf", "--output=L", str(program("client")), str(home / "paxos.conf"),
            "--outstanding", str(load.clients * load.in_flight),
            "--value-size", str(load.value_size), "--proposer-id", "0",
        ]  # fmt: skip

    def load_ended(self, label):
        """Turns what the client printed into a report."""
        about = self.run_dir / f"{label}.load"
        load = json.loads(about.read_text())
        about.unlink()
        printed = (self.run_dir / "logs" / f"{label}.log").read_text(errors="replace")
        report = report_of(printed, load)
        (self.run_dir / f"{label}.json").write_text(json.dumps(report, indent=2) + "\n")

    def _acceptors(self, node):
        """How many acceptors a node has connections to, itself included."""
        # Asked of the host's own table: a connection of ours would be one of a client.
        table = Path(f"/proc/{self.pid(node)}/net/tcp").read_text(encoding="ascii")
        rows = [line.split() for line in table.splitlines()[1:]]
        return len({to for _, _, to, state, *_ in rows
                    if state == ESTABLISHED and to.endswith(f":{PORT:04X}")})  # fmt: skip


class LibpaxosLmdb(Libpaxos):
    """The same with acceptors that write to disk."""

    name = "libpaxos-lmdb"
    about = (
        "acceptors sync a transaction of LMDB for each prepare and each accept, one by one; values "
        "are delivered, not applied to a store; one connection to one proposer, a closed loop; "
        "latency is the mean, its client tells no other"
    )
    storage = (
        "storage-backend lmdb",
        "lmdb-sync yes",
        "lmdb-env-path {data}/acceptor",
        "lmdb-mapsize 4gb",
    )


def program(name):
    """Where a sample program of the build is; None if there is none."""
    build = Path(os.environ.get(DIRECTORY, "/nonexistent")).resolve()
    found = (build / place / name for place in PLACES)
    return next((path for path in found if path.is_file() and os.access(path, os.X_OK)), None)


def report_of(printed, load):
    """The client's lines as a report in the form of `loggos bench`, the warm-up left out."""
    found = [SECOND.match(line) for line in printed.splitlines()]
    seconds = [tuple(map(int, match.groups())) for match in found if match]
    # The second in which the client connected is one of warm-up, too.
    measured = seconds[max(1, round(load["warmup_s"])) :]
    count = sum(values for values, *_ in measured)
    if not count:
        raise RuntimeError(f"libpaxos's client delivered nothing; it printed: {printed[-300:]!r}")
    latency = {
        "mean": sum(values * mean for values, _, _, mean in measured) / count,
        "min": min(least for values, least, _, _ in measured if values),
        "max": max(most for _, _, most, _ in measured),
    }
    return {
        "parameters": {key: value for key, value in load.items() if key != "warmup_s"},
        "throughput": count / len(measured),
        "reads": {"ok": 0, "failed": 0, "unknown": 0, "latency_us": {}},
        "writes": {"ok": count, "failed": 0, "unknown": 0, "latency_us": latency},
    }


def _parameters(load):
    names = ("clients", "in_flight", "value_size", "duration_s")
    return {"rate": None, **{name: getattr(load, name) for name in names}}
