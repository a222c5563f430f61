"""What is done in the cells of the comparison `ablation`."""

from dataclasses import replace

import downtime
from compare import one_load


def one_cell(lab, cell, system, links):
    """Closed loops, or a partition."""
    experiment = system.experiment
    if experiment.scenario:
        downtime.one_cell(lab, cell, system, links)
        return
    system.start_all()
    one = replace(experiment, clients=1, in_flight=1)
    one_load(lab, cell, system, "bench-closed-000001", one)
    for number in experiment.loops:
        load = replace(experiment, in_flight=number // experiment.clients)
        one_load(lab, cell, system, f"bench-closed-{number:06d}", load)
