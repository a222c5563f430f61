"""What is done in the cells of the comparison `downtime`: one cut, with a client at every node."""

import time

from downtime_plan import case_of
from partition import Cutter


def one_cell(lab, _cell, system, links):
    """The cut of a cell: a line of `cuts.jsonl`, behind those in which the machine stood still."""
    experiment = system.experiment
    system.start_all()
    cutter = Cutter(lab, system, links, dict(system.attach(node) for node in system.nodes))
    time.sleep(experiment.warmup_s)
    names = ("scenario", "nodes", "election_timeout_ms")
    about = {name: getattr(experiment, name) for name in names}
    if not cutter.play_case(case_of(experiment), about):
        raise RuntimeError("the machine stood still in the middle of every cut")
    cutter.end_clients()
