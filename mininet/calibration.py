"""The experiment `calibration`: are links what they are asked to be?

From one host to another go numbered packets (UDP) that bear the time of their sending; all hosts
have one clock, so that what arrives tells delay, jitter, loss and order of one direction. Then as
much as TCP carries. A line of `cells.jsonl` says what was asked of the link; what the probes saw is
in `probes/`.
"""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from files import note

PROBE = Path(__file__).resolve().parent / "probe.py"
TIMEOUT_S = 60


def play(lab):
    """All shapes, again and again."""
    experiment = lab.experiment
    star, links = lab.network(experiment, lab.run_dir, experiment.nodes)
    (lab.run_dir / "probes").mkdir()
    a, b = star.nodes.values()
    for repeat in range(1, experiment.repeats + 1):
        for number, shape in enumerate(experiment.packets):
            lab.progress.count(number, len(experiment.packets), f"packets, {shape}")
            path = lab.run_dir / "probes" / f"packets-{number}-{repeat}.csv"
            links.shape({(a.name, b.name): shape}, experiment.seed)
            said = packets(experiment, shape, a, b, path)
            about = {"kind": "packets", "repeat": repeat, "file": path.name}
            note(lab.run_dir / "cells.jsonl", {**about, **said, **asdict(shape)})
        for number, shape in enumerate(experiment.streams):
            lab.progress.count(number, len(experiment.streams), f"TCP, {shape}")
            links.shape({(a.name, b.name): shape, (b.name, a.name): shape}, experiment.seed)
            said = stream(experiment, a, b)
            about = {"kind": "stream", "repeat": repeat}
            note(lab.run_dir / "cells.jsonl", {**about, **said, **asdict(shape)})
        lab.say(f"  {lab.elapsed_s():6.1f} s  repeat {repeat} of {experiment.repeats}")
    lab.environment["links"] = links.describe()


def packets(experiment, shape, a, b, path):
    """Numbered packets from one host to another; what arrived is in the file."""
    # What is still under way when the last one was sent arrives within this.
    silence_s = 0.5 + (shape.delay_ms + shape.jitter_ms) / 1000
    receiver = probe(b, "receive", b.IP(), str(path), str(silence_s))
    expect(receiver, "ready")
    sender = probe(
        a, "send", b.IP(), str(experiment.count), str(experiment.interval_us),
        str(experiment.packet_size),
    )  # fmt: skip
    done(sender)
    done(receiver)
    return {"sent": experiment.count}


def stream(experiment, a, b):
    """As much as one connection carries for a time."""
    receiver = probe(b, "drain", b.IP())
    expect(receiver, "ready")
    done(probe(a, "pour", b.IP(), str(experiment.stream_s)))
    return json.loads(done(receiver))


def probe(host, *arguments):
    """Starts a probe on a host."""
    # `mininet` has none but the standard library here as well: no package is looked for.
    command = [sys.executable, "-I", str(PROBE), *arguments]
    return host.popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)


def expect(process, word):
    """Waits for a probe to say something."""
    said = process.stdout.readline().decode().strip()
    if said != word:
        raise RuntimeError(f"a probe said {said!r} instead of {word!r}")


def done(process):
    """Waits until a probe has ended, and returns what it said."""
    said, errors = process.communicate(timeout=TIMEOUT_S)
    if process.returncode != 0:
        raise RuntimeError(f"a probe failed: {(errors or b'').decode()}")
    return said.decode()
