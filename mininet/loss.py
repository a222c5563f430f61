"""The experiment `loss`: one cluster, and one shape after the other of the links between its nodes.

`cells.jsonl` has a line for each load, with its times of CLOCK_MONOTONIC.
"""

from dataclasses import asdict, replace

import loads
from experiment import node_names
from files import note
from reads import now_ns, wait_well
from shaping import Shape, uniform


def play(lab):
    """All shapes, again and again."""
    experiment = lab.experiment
    system, links = loads.start(lab)
    nodes = node_names(experiment.nodes)
    # Repeats outermost: should the machine grow slower or faster meanwhile, all shapes feel it.
    for repeat in range(1, experiment.repeats + 1):
        for number, shape in enumerate(experiment.cells):
            lab.progress.count(number, len(experiment.cells), f"{shape}")
            # No load shall begin with what the one before left behind.
            links.shape({}, experiment.seed)
            wait_well(system, {})
            found = links.shape(uniform(nodes, shape), experiment.seed)
            about = {"cell": number, "repeat": repeat, **asdict(shape), "round_trips": found}
            one_cell(lab, system, about)
        lab.say(f"  {lab.elapsed_s():6.1f} s  repeat {repeat} of {experiment.repeats}")
    links.shape(uniform(nodes, Shape()), experiment.seed)
    lab.environment["links"] = links.describe()
    loads.end(lab, system)


def one_cell(lab, system, about):
    """A load at a steady rate, and one in a closed loop."""
    experiment = system.experiment
    seed = experiment.seed + 1000 * about["repeat"]
    closed = replace(experiment, duration_s=experiment.closed_s)
    for load, rate, how in (("open", experiment.rate, experiment), ("closed", None, closed)):
        label = f"bench-{load}-{about['cell']:02d}-{about['repeat']}"
        begin_ns = now_ns()
        labels = loads.one_load(lab, system, label, rate, seed, load=how)
        times = {"begin_ns": begin_ns, "end_ns": now_ns()}
        loads.judge_now(lab, system, labels)
        note(lab.run_dir / "cells.jsonl", {**about, "load": load, "labels": labels, **times})
