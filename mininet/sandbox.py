"""A private corner of the machine for each run: its own network, mounts and process ids.

The script runs itself again inside `unshare`. Whatever then happens, when the outer process ends
the kernel takes down every process, interface and rule of the run; the machine's own network never
sees them, and several runs with the same names can go on side by side.

Where process ids can't be separated (some containers), the network still is, and every process of
the run asks the kernel to be killed when its parent dies.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time

INSIDE = "LOGGOS_LAB_INSIDE"
WRAPPERS = {
    "network, mounts, processes": [
        "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--",
    ],
    "network, mounts": ["unshare", "--net", "--mount", "--fork", "--kill-child", "--"],
}  # fmt: skip
PR_SET_PDEATHSIG = 1
CLEANUP_S = 20


class Interrupted(BaseException):
    """A signal asked the run to end."""

    def __init__(self, number):
        super().__init__(signal.Signals(number).name)
        self.number = number


def is_inside():
    """Whether this process is the one inside."""
    return INSIDE in os.environ


def isolation():
    """What separates this run from the machine."""
    return os.environ.get(INSIDE, "nothing")


def die_with_parent():
    """Asks the kernel to kill this process when its parent ends; survives exec."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def interrupt_on_signals():
    """Turns the first SIGINT or SIGTERM into `Interrupted`, and ignores those that follow.

    The first one starts the clean-up; a second one must not cut that short.
    """

    def handler(number, _frame):
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, handler)


def run_inside(arguments):
    """Runs this script again inside, with these arguments; returns its exit code."""
    name, wrapper = _wrapper()
    script = [sys.executable, os.path.abspath(sys.argv[0]), *arguments]
    # A new network namespace has its loopback down, and Mininet's tools expect it up.
    inner = ["sh", "-c", 'ip link set lo up; exec "$@"', "sh", *script]
    signals = []
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lambda number, _frame: signals.append(number))
    # A session of its own: Ctrl-C then reaches only us, and the inside gets one signal, not two.
    child = subprocess.Popen(
        [*wrapper, *inner],
        stdin=subprocess.DEVNULL,
        env={**os.environ, INSIDE: name},
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 (there are no threads)
    )
    try:
        while True:
            try:
                return child.wait(timeout=0.1)
            except subprocess.TimeoutExpired:
                if signals:
                    return _end(child, signals[0], bool(wrapper))
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


def _wrapper():
    for name, wrapper in WRAPPERS.items():
        probe = subprocess.run(
            [*wrapper, "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        if probe.returncode == 0:
            return name, wrapper
    return "nothing", []


def _end(child, number, wrapped):
    """Passes a signal on, and waits for the clean-up for as long as it may take."""
    # `unshare` itself ignores signals while it waits for the process inside.
    for pid in _children(child.pid) if wrapped else [child.pid]:
        os.kill(pid, number)
    deadline = time.monotonic() + CLEANUP_S
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return 128 + number


def _children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]
