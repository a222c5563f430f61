"""The nodes under torture: each with its lives, one behind the other, and how each may end.

A life is one process from start to end. It knows which exit codes are right for it: none while
nothing was done to it, -9 after a kill, 0 after SIGTERM, 74 where its disk fails. Any other end is
a violation.
"""

import json
import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from torture_damage import damage
from torture_places import before_exec, fill

DISK_FAILED = 74
DAMAGE_FOUND = b"the log is damaged"
SERVING = b"serving as"
# What a log must never say.
BROKEN = re.compile(rb"panicked at|broken invariant|assertion .*failed|BUG|memory allocation of")
SEGMENT_MIB = 8
# By so much the log grows until a snapshot is taken, if the last one was smaller.
SNAPSHOT_LOG_MIB = 1


@dataclass
class Life:
    """One process of a node."""

    number: int
    process: subprocess.Popen
    began_s: float
    # Exit codes that are right, and what its last words must then hold.
    expected: dict = field(default_factory=dict)
    log_offset: int = 0
    # A file of its log that it found damaged, and must say so.
    damaged: Path | None = None
    strained: str = ""
    serving: bool = False


class Node:
    """A node's directory and its present life, if it has one."""

    def __init__(self, cluster, number):
        self.cluster = cluster
        self.number = number
        self.home = cluster.run_dir / "nodes" / f"n{number}"
        self.home.mkdir(exist_ok=True)
        self.log = cluster.run_dir / "logs" / f"n{number}.log"
        self.log.touch()
        self.seen = 0
        self.lives = 0
        self.life = None
        self.paused = False
        # Until when no other fault takes this node.
        self.busy_until_s = 0.0
        self.restart_at_s = None
        self.restart_with = {}
        self.ballast = None
        # Whether its log was ever damaged: what is wrong there stays until the log is truncated.
        self.damaged = False
        self.memory_mib = 0.0

    def start(self, clock_s=0, fail_sync=None, slow_ms=None, damage_seed=None):
        """Begins a life: under another clock, with one sync that fails or with slow ones, or with
        damage to the log that it finds."""
        self.lives += 1
        damaged = None if damage_seed is None else self._damage(damage_seed)
        command = [
            str(self.cluster.binary), "serve", "--config", str(self.cluster.config),
            "--node", str(self.number), "--data-dir", str(self.home / "data"),
            "--log-level", "info",
            "--trace", str(self.cluster.run_dir / "traces" / f"n{self.number}-{self.lives}.trace"),
        ]  # fmt: skip
        expected, strained = {}, ""
        if fail_sync or slow_ms:
            how = f"error=EIO:when={fail_sync}" if fail_sync else f"delay_exit={slow_ms * 1000}"
            calls = self.cluster.run_dir / "logs" / f"n{self.number}-{self.lives}.strace"
            # -D: the node, not strace, is our child, so its id and exit code are its own.
            strace = ["strace", "-D", "-f", "-qq", "--seccomp-bpf", "-e", "trace=fdatasync"]
            command = [*strace, "-e", f"inject=fdatasync:{how}", "-o", str(calls), *command]
            strained = "slow disk" if slow_ms else ""
            if fail_sync:
                expected[DISK_FAILED] = b"Input/output error"
        with open(self.log, "ab") as log:
            offset = log.tell()
            process = self.cluster.place.popen(
                self.number, command, stdout=log, stderr=log, cwd=self.home,
                preexec_fn=before_exec(clock_s),
            )  # fmt: skip
        now_s = self.cluster.now_s()
        self.life = Life(self.lives, process, now_s, expected, offset, damaged, strained)
        self.restart_at_s, self.restart_with = None, {}

    def _damage(self, seed):
        """Damages the log; returns the file in which the node must find that, if it is sure to."""
        found = damage(self.home / "data", random.Random(seed))
        self.cluster.tell(f"n{self.number}: {found.words if found else 'too small a log'}")
        self.damaged |= found is not None
        return found.path if found and found.is_sure else None

    def restart_in(self, seconds, **how):
        """Has it started again after a while."""
        self.restart_at_s, self.restart_with = self.cluster.now_s() + seconds, how

    def end(self, number, *codes):
        """Sends a signal that ends it; `codes` are then right."""
        for code in codes:
            self.life.expected.setdefault(code, b"")
        self.paused = False
        self._signal(number)
        if number != signal.SIGKILL:
            self._signal(signal.SIGCONT)

    def pause(self):
        """SIGSTOP."""
        self._signal(signal.SIGSTOP)
        self.paused = True

    def resume(self, life):
        """SIGCONT, if it is still the life that was paused."""
        if self.paused and self.life and self.life.number == life:
            self._signal(signal.SIGCONT)
            self.paused = False

    def _signal(self, number):
        if self.life and self.life.process.poll() is None:
            os.kill(self.life.process.pid, number)

    def health(self):
        """`well`, or what keeps it from serving."""
        if not self.life:
            return "down"
        if self.paused:
            return "paused"
        if not self.life.serving:
            return "starting"
        return "full disk" if self.ballast else self.life.strained or "well"

    def look(self):
        """Reads what its log has new, and sees whether it ended; returns violations."""
        found = []
        with open(self.log, "rb") as log:
            log.seek(self.seen)
            fresh = log.read()
        # A line that is still being written is read the next time.
        fresh = fresh[: fresh.rfind(b"\n") + 1]
        self.seen += len(fresh)
        for line in fresh.splitlines():
            if BROKEN.search(line):
                found.append(f"n{self.number} says: {line.decode(errors='replace')}")
        if not self.life:
            return found
        if SERVING in fresh:
            self.life.serving = True
            found += self._missed_damage()
        code = self.life.process.poll()
        if code is None:
            return found
        found += self._ended(code)
        self.life, self.paused = None, False
        if self.restart_at_s is None:
            self.restart_in(0.3)
        return found

    def _missed_damage(self):
        path = self.life.damaged
        # A file that was to be removed, behind a snapshot, is not read any more.
        if path is None or not path.exists() or DAMAGE_FOUND in self._said():
            return []
        return [f"n{self.number} serves with a damaged {path.name} and does not say so: {self.log}"]

    def _said(self):
        """What its present life has said so far."""
        with open(self.log, "rb") as log:
            log.seek(self.life.log_offset)
            return log.read()

    def _ended(self, code):
        life = self.life
        self.cluster.ends[code] += 1
        self.cluster.tell(f"n{self.number} ended with {code}")
        if code not in life.expected:
            return [f"n{self.number} ended with {code}, and nothing asked it to: {self.log}"]
        words = life.expected[code]
        if words not in self._said():
            return [f"n{self.number} ended with {code} without saying {words.decode()!r}"]
        return []

    def measure(self):
        """Notes how much memory of its own it has."""
        if not self.life:
            return
        try:
            with open(f"/proc/{self.life.process.pid}/status", encoding="ascii") as file:
                lines = dict(line.split(":", 1) for line in file)
        except OSError:
            return
        if "RssAnon" in lines:
            self.memory_mib = max(self.memory_mib, int(lines["RssAnon"].split()[0]) / 1024)

    def fill_disk(self):
        """No room for anything: the node must wait it out, and a new life of it must, too."""
        self.ballast = fill(self.home)

    def free_disk(self):
        """Room again."""
        if self.ballast:
            self.ballast.unlink()
            self.ballast = None


class Cluster:
    """All nodes, their configuration, and what they say of themselves."""

    def __init__(self, place, numbers, binary, run_dir, tell):
        self.place = place
        self.binary = binary
        self.run_dir = run_dir
        self.tell = tell
        self.ends = Counter()
        self.began = time.monotonic()
        self.config = run_dir / "loggos.toml"
        self.config.write_text(self._config(numbers))
        self.nodes = {number: Node(self, number) for number in numbers}

    def now_s(self):
        """Seconds since the beginning of the load."""
        return time.monotonic() - self.began

    def _config(self, numbers):
        lines = ['cluster = "torture"', f'data_dir = "{self.run_dir}/unused"', ""]
        for number in numbers:
            peer, client = self.place.addresses(number)
            lines += ["[[nodes]]", f"id = {number}"]
            lines += [f'peer_address = "{peer}"', f'client_address = "{client}"', ""]
        # Small segments and logs: the change from one segment to the next, snapshots and what they
        # cut off are part of what is tortured.
        lines += ["[wal]", f"segment_mib = {SEGMENT_MIB}", "", "[snapshot]"]
        return "\n".join([*lines, f"log_mib = {SNAPSHOT_LOG_MIB}"]) + "\n"

    def client_addresses(self):
        """As `--nodes` takes them."""
        return ",".join(self.place.addresses(number)[1] for number in self.nodes)

    def status(self):
        """What each node that answers says of itself, by number."""
        command = [str(self.binary), "status", "--nodes", self.client_addresses(), "--json"]
        process = self.place.popen(
            None, command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            preexec_fn=before_exec(0),
        )  # fmt: skip
        out, _ = process.communicate(timeout=60)
        try:
            entries = json.loads(out)["nodes"]
        except (json.JSONDecodeError, KeyError):
            return {}
        return {entry["node"]: entry for entry in entries if "node" in entry}

    def transfer(self, number):
        """Asks that this node may lead; returns the process. Whether it can, nobody knows now."""
        nodes = self.client_addresses()
        command = [str(self.binary), "leader", "transfer", str(number), "--nodes", nodes]
        with open(self.run_dir / "logs" / "transfer.log", "ab") as log:
            return self.place.popen(
                None, command, stdout=log, stderr=log, preexec_fn=before_exec(0)
            )  # fmt: skip

    def leader(self):
        """The node that leads, by its own log's last word; `None` if nobody says so."""
        latest, leader = b"", None
        for number, node in self.nodes.items():
            if node.health() not in ("well", "slow disk"):
                continue
            lines = [line for line in _tail(node.log) if b": leading with" in line]
            if lines and latest <= lines[-1][:13]:
                latest, leader = lines[-1][:13], number
        return leader

    def kill_rest(self):
        """Ends every process that still runs."""
        for node in self.nodes.values():
            if node.life and node.life.process.poll() is None:
                node.life.process.kill()
                node.life.process.wait()


def _tail(path, size=65536):
    with open(path, "rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - size))
        return file.read().splitlines()
