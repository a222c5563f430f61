"""Measures round trips between hosts, and says whether they are what was asked for."""

import re
import statistics
import subprocess
from itertools import combinations

from shaping import Shape

PINGS = 11
INTERVAL_S = 0.02
# The median may differ from what was asked for by this and this share, and by the jitter.
TOLERANCE_MS = 1.0
TOLERANCE_SHARE = 0.05
# As few answers must have come; of so many lossy ones the rest may well be lost.
ANSWERS = 3


def measure(places, pairs):
    """The round trip between each two of these hosts (by name) that a shape concerns: `asked_ms`,
    and what was `measured_ms`, the median. Raises if one is not as it should be.

    By ping, which is told to take its own times (-U): the kernel takes that of a reply before the
    reply is held back.
    """
    started = {}
    for a, b in combinations(places, 2):
        if (a, b) in pairs or (b, a) in pairs:
            started[a, b] = subprocess.Popen(
                [
                    "nsenter", "-t", str(places[a].pid), "-n", "ping", "-U", "-c", str(PINGS),
                    "-i", str(INTERVAL_S), "-W", "2", places[b].address,
                ],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True,
            )  # fmt: skip
    found, wrong = {}, []
    for (a, b), process in started.items():
        said, _ = process.communicate(timeout=60)
        there, back = pairs.get((a, b), Shape()), pairs.get((b, a), Shape())
        asked_ms = there.delay_ms + back.delay_ms
        times = [float(time) for time in re.findall(r"time=([\d.]+) ms", said)]
        if len(times) < ANSWERS:
            raise RuntimeError(f"{a} does not reach {b}: {said.strip()}")
        measured_ms = round(statistics.median(times), 3)
        found[f"{a}-{b}"] = {"asked_ms": asked_ms, "measured_ms": measured_ms}
        if abs(measured_ms - asked_ms) > tolerance_ms(there, back):
            wrong.append(f"{a}-{b} takes {measured_ms:g} ms instead of {asked_ms:g}")
    if wrong:
        raise RuntimeError("links are not as they were asked for: " + "; ".join(wrong))
    return found


def tolerance_ms(there, back):
    """By how much the median round trip over these two may differ from the sum of their delays."""
    share = TOLERANCE_SHARE * (there.delay_ms + back.delay_ms)
    return TOLERANCE_MS + share + there.jitter_ms + back.jitter_ms
