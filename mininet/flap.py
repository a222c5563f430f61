"""The experiment `flap`: a link goes down and comes back, over and over.

`cells.jsonl` has a line for each stretch, with its times of CLOCK_MONOTONIC, and one for as long a
time before in which no link was touched.
"""

import signal
import time

import loads
from files import note
from reads import now_ns, wait_well
from stretch import pass_time


def play(lab):
    """All links and periods, again and again, on one cluster."""
    experiment = lab.experiment
    system, links = loads.start(lab)
    benches = dict(system.attach(node) for node in system.nodes)
    try:
        # Repeats outermost: should the machine grow slower or faster meanwhile, all feel it.
        for repeat in range(1, experiment.repeats + 1):
            calm(lab, system, benches, repeat)
            for link in experiment.links:
                for period_s in experiment.periods_s:
                    about = {"link": "-".join(link), "period_s": period_s, "repeat": repeat}
                    flap(lab, system, links, benches, link, about)
            lab.say(f"  {lab.elapsed_s():6.1f} s  repeat {repeat} of {experiment.repeats}")
    finally:
        links.heal()
    wait_well(system, benches)
    for process in benches.values():
        # As by Ctrl-C: they then check what they did.
        process.send_signal(signal.SIGINT)
    loads.wait_ended(system, benches)
    loads.end(lab, system)


def calm(lab, system, benches, repeat):
    """A stretch in which nothing happens, to compare with."""
    wait_well(system, benches)
    begin_ns = now_ns()
    pass_time(system, benches, lab.experiment.stretch_s)
    line = {"link": "none", "period_s": 0, "repeat": repeat, "begin_ns": begin_ns}
    note(lab.run_dir / "cells.jsonl", line | {"end_ns": now_ns(), "changes": 0})


def flap(lab, system, links, benches, link, about):
    """A stretch in which a link flaps."""
    leader = wait_well(system, benches)
    followers = [node for node in system.nodes if node != leader]
    a, b = (leader, followers[0]) if "leader" in link else followers[:2]
    begin = time.monotonic()
    begin_ns = now_ns()
    changes = 0
    while time.monotonic() < begin + lab.experiment.stretch_s:
        links.set({(a, b), (b, a)} if changes % 2 == 0 else frozenset())
        changes += 1
        # From the beginning, so that what a change takes does not add up.
        left_s = begin + changes * about["period_s"] / 2 - time.monotonic()
        pass_time(system, benches, left_s)
    end_ns = now_ns()
    links.heal()
    line = {**about, "nodes": [a, b], "begin_ns": begin_ns, "end_ns": end_ns, "changes": changes}
    note(lab.run_dir / "cells.jsonl", line)
