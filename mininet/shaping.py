"""Delay, jitter, loss and reordering between hosts: what is asked for, and two ways to get it.

`Netem` has the sender's kernel do it: a class for each destination, each with a netem of its own.
`Shaper` is our own program (`shaper/`) for kernels without netem: it holds back what a host has
received. Where both are idle packets pass; where the shaper has died none do, so that no network
is ever faster than it says.

With either, packets are of one frame's size: hosts don't leave it to their interfaces to cut large
ones into pieces, or one loss would take 64 KiB.
"""

import json
import os
import select
import subprocess
import time
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

from sandbox import die_with_parent

SHAPER = Path(__file__).resolve().parent.parent / "target/release/loggos-shaper"
ANSWER_S = 10
# As many packets as the shaper holds for a host.
NETEM_LIMIT = 16384
# Far above what an emulated link carries; a class of HTB must have some rate.
UNLIMITED = "100gbit"


@dataclass(frozen=True)
class Shape:
    """What happens to packets on their way from one host to another."""

    delay_ms: float = 0
    # Each packet's delay is drawn evenly from `delay_ms` plus and minus this; packets keep their
    # order, unless some are to be reordered.
    jitter_ms: float = 0
    loss_percent: float = 0
    # So many packets are not delayed, and so arrive before those that are.
    reorder_percent: float = 0

    def __post_init__(self):
        if not 0 <= self.jitter_ms <= self.delay_ms:
            raise ValueError(f"{self}: jitter must be at most the delay")
        if not (0 <= self.loss_percent <= 100 and 0 <= self.reorder_percent <= 100):
            raise ValueError(f"{self}: percentages must be 0 to 100")
        if self.reorder_percent and not self.delay_ms:
            raise ValueError(f"{self}: without delay there is nothing to overtake")


@dataclass(frozen=True)
class Place:
    """Where a host is: its address, a process in its network, and its interface there."""

    address: str
    pid: int
    interface: str


def uniform(names, shape):
    """The same between all hosts of these names, by ordered pairs."""
    return dict.fromkeys(permutations(names, 2), shape)


def have_netem():
    """Whether this kernel can delay packets, tried in a throwaway namespace."""
    sink = subprocess.DEVNULL
    probe = "tc qdisc add dev lo root netem delay 1ms"
    command = ["unshare", "--net", "sh", "-c", probe]
    done = subprocess.run(command, stdin=sink, stdout=sink, stderr=sink, check=False)
    return done.returncode == 0


def what_is_missing():
    """One line that says what shaping lacks on this machine, None if nothing."""
    if have_netem() or SHAPER.is_file():
        return None
    return (
        "this kernel has no netem, and what does its work here is not built: "
        "`scripts/build.sh shaper`"
    )


def backend(places, seed):
    """What shapes links between these hosts (by name) on this machine."""
    for place in places.values():
        # Some of these an interface may not have, and then they are off.
        for feature in ("tso", "gso", "gro"):
            _inside(place, ["ethtool", "-K", place.interface, feature, "off"], check=False)
    return Netem(places) if have_netem() else Shaper(places, seed)


class Netem:
    """Shapes by the senders' kernels. Its chance has no seed before iproute2 6.6."""

    name = "netem"

    def __init__(self, places):
        self.places = places
        self.process = None
        for name, place in places.items():
            lines = [f"qdisc add dev {place.interface} root handle 1: htb"]
            for number, to in self._others(name):
                link = f"dev {place.interface} parent 1:"
                rate = f"rate {UNLIMITED} burst 1m cburst 1m quantum 60000"
                match = f"protocol ip u32 match ip dst {places[to].address}/32"
                lines.append(f"class add {link} classid 1:{number:x} htb {rate}")
                lines.append(f"filter add {link} {match} flowid 1:{number:x}")
            self._tc(place, lines)

    def set(self, pairs):
        """Shapes these ordered pairs, and no others."""
        for name, place in self.places.items():
            lines = []
            for number, to in self._others(name):
                netem = netem_words(pairs.get((name, to), Shape()))
                parent = f"dev {place.interface} parent 1:{number:x}"
                lines.append(f"qdisc replace {parent} handle {number + 0x100:x}: netem {netem}")
            self._tc(place, lines)

    def report(self):
        """What tc says of itself, by host."""
        show = ["tc", "-s", "-j", "qdisc", "show", "dev"]
        return {
            name: json.loads(_inside(place, [*show, place.interface]).stdout)
            for name, place in self.places.items()
        }

    def stop(self):
        """Nothing: it ends with the hosts' network."""

    def _others(self, name):
        """The other hosts, each with the number of its class."""
        return enumerate((other for other in self.places if other != name), 1)

    @staticmethod
    def _tc(place, lines):
        _inside(place, ["tc", "-batch", "-"], input="\n".join(lines) + "\n")


def netem_words(shape):
    """A shape in netem's words."""
    words = f"limit {NETEM_LIMIT} delay {shape.delay_ms * 1000:.0f}us"
    if shape.jitter_ms:
        words += f" {shape.jitter_ms * 1000:.0f}us"
    if shape.loss_percent:
        words += f" loss random {shape.loss_percent:g}%"
    if shape.reorder_percent:
        return words + f" reorder {shape.reorder_percent:g}%"
    # With a rate, however high, netem has packets wait for those before them.
    return words + (f" rate {UNLIMITED}" if shape.jitter_ms else "")


class Shaper:
    """Shapes by our own program, which serves all hosts; `process` is that."""

    name = "shaper"

    def __init__(self, places, seed):
        self.places = places
        hosts = [f"{place.address}={place.pid}" for place in places.values()]
        self.process = subprocess.Popen(
            [str(SHAPER), "--seed", str(seed), *hosts],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=_urgent,  # noqa: PLW1509 (it asks the kernel and no more)
        )
        if self._answer() != "ready":
            raise RuntimeError("the shaper did not begin")
        for place in places.values():
            # No --queue-bypass: see the top.
            rule = ["-A", "PREROUTING", "-i", place.interface, "-j", "NFQUEUE", "--queue-num", "0"]
            _inside(place, ["iptables", "-w", "-t", "mangle", *rule])

    def set(self, pairs):
        """Shapes these ordered pairs, and no others."""
        for pair in permutations(self.places, 2):
            shape = pairs.get(pair, Shape())
            a, b = (self.places[name].address for name in pair)
            said = self._ask(
                f"shape {a} {b}"
                f" delay_us={shape.delay_ms * 1000:.0f} jitter_us={shape.jitter_ms * 1000:.0f}"
                f" loss_ppm={shape.loss_percent * 1e4:.0f}"
                f" reorder_ppm={shape.reorder_percent * 1e4:.0f}"
            )
            if said != "ok":
                raise RuntimeError(f"the shaper refused {shape} from {a} to {b}: {said}")

    def report(self):
        """How many packets of each pair came, were lost and overtook others, how late it was
        itself, and what did not fit into its queues."""
        return json.loads(self._ask("report"))

    def stop(self):
        """Ends it; from then on nothing passes."""
        self.process.stdin.close()
        self.process.wait(timeout=ANSWER_S)

    def _ask(self, line):
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._dead() from None
        return self._answer()

    def _answer(self):
        line = b""
        deadline = time.monotonic() + ANSWER_S
        while not line.endswith(b"\n"):
            wait_s = max(deadline - time.monotonic(), 0)
            if not select.select([self.process.stdout], [], [], wait_s)[0]:
                raise RuntimeError(f"the shaper did not answer within {ANSWER_S} s")
            # Not `readline`: what that has read ahead, `select` does not see.
            part = os.read(self.process.stdout.fileno(), 1 << 16)
            if not part:
                raise self._dead()
            line += part
        return line.decode().strip()

    def _dead(self):
        self.process.wait(timeout=ANSWER_S)
        said = self.process.stderr.read().decode(errors="replace").strip()
        return RuntimeError(f"the shaper ended with {self.process.returncode}: {said}")


def _urgent():
    """Lets a process be woken before all others, which all wait for what it does; if it may be."""
    die_with_parent()
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        os.setpriority(os.PRIO_PROCESS, 0, -15)


def _inside(place, command, check=True, **kwargs):
    """Runs a command in a host's network."""
    done = subprocess.run(
        ["nsenter", "-t", str(place.pid), "-n", *command],
        capture_output=True,
        text=True,
        check=False,
        **({} if "input" in kwargs else {"stdin": subprocess.DEVNULL}),
        **kwargs,
    )
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} at {place.address}: {done.stderr.strip()}")
    return done
