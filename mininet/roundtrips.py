"""Measures round trips between hosts, and says whether they are what was asked for."""

import re
import statistics
import subprocess
from itertools import combinations

from shaping import Shape

PINGS = 11
INTERVAL_S = 0.02
# Round trips that must be as asked for. Not all: some overtake others, and a busy machine is late.
RIGHT = 3
ATTEMPTS = 3
# By how much a round trip may differ, and by what share of it; jitter comes on top.
TOLERANCE_MS = 1.0
TOLERANCE_SHARE = 0.05


def measure(places, pairs):
    """The round trip between each two of these hosts (by name) that a shape concerns: `asked_ms`,
    and what was `measured_ms`, the median. Raises if one is not as it should be.

    By ping, which is told to take its own times (-U): the kernel takes that of a reply before the
    reply is held back.
    """
    found = {}
    left = [pair for pair in combinations(places, 2) if {pair, pair[::-1]} & pairs.keys()]
    for _ in range(ATTEMPTS):
        wrong = []
        for (a, b), times in ping(places, left).items():
            there, back = pairs.get((a, b), Shape()), pairs.get((b, a), Shape())
            asked_ms = there.delay_ms + back.delay_ms
            most_ms = tolerance_ms(there, back)
            if sum(abs(time_ms - asked_ms) <= most_ms for time_ms in times) < RIGHT:
                wrong.append((a, b))
            measured_ms = round(statistics.median(times), 3) if times else None
            found[f"{a}-{b}"] = {"asked_ms": asked_ms, "measured_ms": measured_ms}
        left = wrong
        if not left:
            return found
    words = "; ".join(
        f"{a}-{b} takes {found[f'{a}-{b}']['measured_ms']} ms, asked for was "
        f"{found[f'{a}-{b}']['asked_ms']:g} ms"
        for a, b in left
    )
    raise RuntimeError(f"links are not as they were asked for: {words}")


def ping(places, pairs):
    """The round trips between these pairs, all at the same time, in milliseconds."""
    started = {
        (a, b): subprocess.Popen(
            [
                "nsenter", "-t", str(places[a].pid), "-n", "ping", "-U", "-c", str(PINGS),
                "-i", str(INTERVAL_S), "-W", "2", places[b].address,
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for a, b in pairs
    }  # fmt: skip
    found = {}
    for pair, process in started.items():
        said, _ = process.communicate(timeout=60)
        found[pair] = [float(time) for time in re.findall(r"time=([\d.]+) ms", said)]
    return found


def tolerance_ms(there, back):
    """By how much a round trip over these two may differ from the sum of their delays."""
    share = TOLERANCE_SHARE * (there.delay_ms + back.delay_ms)
    return TOLERANCE_MS + share + there.jitter_ms + back.jitter_ms
