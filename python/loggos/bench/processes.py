"""Child processes, and what the kernel tells of them.

Every child is known by its process id, is ended by it, and asks the kernel to be killed when we
die. It has a session of its own, so that Ctrl-C reaches us alone, and we end the others in order.
"""

import ctypes
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
STOP_S = 20
# Below the ports that the kernel gives to connections: one of those could take the port of a node
# that is down for a moment.
PORT_FIRST = 10_240
PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")

_libc = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    """Something could not be measured; the message says what and why."""


class Interrupted(BaseException):
    """A signal asked the run to end."""


def interrupt_on_signals() -> None:
    """Turns the first SIGINT, SIGTERM or SIGHUP into `Interrupted`, and ignores those that follow:
    they must not cut the clean-up short."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def handler(number: int, _frame: object) -> None:
        for each in signals:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(signal.Signals(number).name)

    for each in signals:
        signal.signal(each, handler)


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Children:
    """The processes that we have started."""

    def __init__(self):
        self._all: list[subprocess.Popen] = []

    def start(self, command: Sequence[object], log: Path) -> subprocess.Popen:
        """Starts a process that writes to a log; does not wait for it."""
        with open(log, "ab") as file:
            return self._popen(command, stdout=file, stderr=file)

    def begin(self, command: Sequence[object]) -> subprocess.Popen:
        """Starts a process whose output `end` will read."""
        return self._popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, command: Sequence[object], timeout_s: float) -> str:
        """Runs a process to its end; returns what it printed."""
        return self.end(self.begin(command), timeout_s)

    def end(self, process: subprocess.Popen, timeout_s: float) -> str:
        """Waits for a process of `begin`; returns what it printed."""
        name = " ".join(str(part) for part in process.args[:2])
        try:
            out, error = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.kill(process)
            raise Failed(f"{name} did not end within {timeout_s:.0f} s") from None
        if process.returncode != 0:
            lines = (error or out).strip().splitlines() or ["it said nothing"]
            raise Failed(f"{name} ended with {process.returncode}: {lines[-1]}")
        return out

    def stop(self, process: subprocess.Popen) -> None:
        """Ends a process cleanly (SIGTERM), or by force if it does not."""
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=STOP_S)
            except subprocess.TimeoutExpired:
                self.kill(process)

    def kill(self, process: subprocess.Popen) -> None:
        """SIGKILL, and waits until it is gone."""
        if process.poll() is None:
            process.kill()
        process.wait()

    def kill_all(self) -> None:
        """Ends all that still run."""
        for process in self._all:
            if process.poll() is None:
                process.kill()
        for process in self._all:
            process.wait()
        self._all.clear()

    def _popen(self, command: Sequence[object], **how: object) -> subprocess.Popen:
        # There are no threads when a child is made, so the hook is safe.
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509
            **how,
        )
        self._all = [child for child in self._all if child.poll() is None]
        self._all.append(process)
        return process


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody uses now."""
    end = int(PORT_RANGE.read_text().split()[0])
    candidates = list(range(PORT_FIRST, max(end, PORT_FIRST + 1000)))
    random.shuffle(candidates)
    found = []
    for port in candidates:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise Failed("there are no free ports")


def wait_for(what: str, is_so: Callable[[], object], timeout_s: float, pause_s: float = 0.05):
    """Waits until something holds, and returns what it said; `what` says what did not happen."""
    deadline = time.monotonic() + timeout_s
    while not (answer := is_so()):
        if deadline < time.monotonic():
            raise Failed(f"{what} within {timeout_s:.0f} s")
        time.sleep(pause_s)
    return answer


def memory(pid: int) -> dict[str, int]:
    """Bytes of resident memory: all (`rss`), of it the process's own (`anon`) and mapped files
    (`file`), as the log is."""
    return parse_memory(Path(f"/proc/{pid}/status").read_text())


def parse_memory(status: str) -> dict[str, int]:
    """The same from the text of `/proc/PID/status`."""
    names = {"VmRSS": "rss", "RssAnon": "anon", "RssFile": "file"}
    found = {}
    for line in status.splitlines():
        key, _, rest = line.partition(":")
        if key in names:
            found[names[key]] = int(rest.split()[0]) * 1024
    return found


def processor_s(pid: int) -> float:
    """Processor time that a process has used so far, all threads, in seconds. In nanoseconds where
    the usual counters have hundredths of a second, which are too coarse for a node that idles."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:
            continue  # The thread has ended meanwhile.
    return total / 1e9
