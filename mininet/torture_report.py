"""What came of it: replies and gaps from the clients' traces, and the summary in 80 columns."""

import itertools
import struct
import textwrap
from collections import Counter

from torture_plan import KINDS

# `src/trace.rs`: a header of 64 bytes, records of 40.
HEADER_SIZE = 64
RECORD = struct.Struct("<QHHIQQQ")
CLIENT_OPERATION = 40
ANSWERED = (0, 1)
# A gap is worth a line from here on, and a question where a majority was well for so long.
GAP_TOLD_S = 0.5
GAP_ASKED_S = 1.0


def replies(paths, zero_ns):
    """When each reply came, in seconds from `zero_ns`, in order; and all outcomes, counted."""
    times, outcomes = [], Counter()
    for path in paths:
        data = path.read_bytes()[HEADER_SIZE:]
        data = data[: len(data) // RECORD.size * RECORD.size]
        for time_ns, kind, _, aux, *_ in RECORD.iter_unpack(data):
            if kind != CLIENT_OPERATION:
                continue
            outcome = aux >> 8 & 0xFF
            outcomes[outcome] += 1
            if outcome in ANSWERED:
                times.append((time_ns - zero_ns) / 1e9)
    times.sort()
    return times, outcomes


def gaps(times):
    """Stretches without a reply, longest first, as (begin, end)."""
    pairs = itertools.pairwise(times)
    found = [pair for pair in pairs if pair[1] - pair[0] > GAP_TOLD_S]
    return sorted(found, key=lambda pair: pair[0] - pair[1])


def well_for(gap, majority):
    """The longest time without a break inside a gap in which a majority was there.

    `majority` are changes: (seconds, whether it is there from then on).
    """
    begin, end = gap
    longest = 0.0
    ends = [at for at, _ in majority[1:]] + [end]
    for (since, is_there), until in zip(majority, ends, strict=True):
        if is_there:
            longest = max(longest, min(until, end) - max(since, begin))
    return longest


def _counts(ends):
    return ", ".join(f"{code} ({count})" for code, count in sorted(ends.items()))


def summary(run):
    """The lines of the summary."""
    plan = run["plan"]
    lines = [
        f"torture: seed {plan.seed}, {plan.seconds:g} s, {plan.nodes} nodes on {run['place']}",
        "",
        "  fault         done  what it is",
    ]
    for kind, (*_, words) in KINDS.items():
        done = run["done"].get(kind, 0)
        if kind in run["lacks"]:
            lines.append(f"  {kind:12}     -  left out: {run['lacks'][kind]}")
        else:
            lines.append(f"  {kind:12} {done:5}  {words}")
    if run["skipped"]:
        lines.append(f"  {'':12} {run['skipped']:5}  found no node that was free for them")
    outcomes = run["outcomes"]
    lines += [
        "",
        f"  operations   {sum(outcomes.values()):,}: {outcomes[0]:,} done, "
        f"{outcomes[1]:,} refused, {outcomes[2]:,} failed, {outcomes[3]:,} unknown",
        f"  checked      {run['checked']}",
        *(f"  {name:12} {words}" for name, words in run["stores"].items()),
        f"  nodes        {run['lives']} lives; exit codes {_counts(run['ends'])}",
        f"               most memory {run['memory_mib']:.0f} MiB; all level {run['level_s']}",
    ]
    if run["gaps"]:
        lines.append(
            "  gaps         without any reply, and for how long of it a majority was well:"
        )
        for begin, end, well in run["gaps"][:5]:
            asked = "  <- why?" if well > GAP_ASKED_S else ""
            lines.append(
                f"    at {begin:6.1f} s  {end - begin:5.2f} s, well for {well:4.2f} s{asked}"
            )
    else:
        lines.append(f"  gaps         none above {GAP_TOLD_S} s")
    lines.append("")
    for violation in run["violations"]:
        lines += textwrap.wrap(
            f"VIOLATION: {violation}", 79, initial_indent="  ", subsequent_indent="    "
        )
    verdict = "FAILED" if run["violations"] else "passed"
    lines.append(f"  {verdict}; again: make torture SECONDS={plan.seconds:g} SEED={plan.seed}")
    return lines
