"""What is done in the cells of the comparison `mix`."""

from dataclasses import replace

from compare import one_load
from mix_plan import TARGETS


def one_cell(lab, cell, system, _links):
    """A closed loop for each mix, one after the other in the same cluster."""
    experiment = system.experiment
    system.start_all()
    way = experiment.way
    reads = ["--consistency", way, "--target", TARGETS[way]] if way else []
    for skew in experiment.skews:
        for share in experiment.shares:
            name = f"bench-skew-{skew:g}-reads-{share:.0%}".replace("%", "")
            more = [*reads, "--skew", str(skew)]
            one_load(lab, cell, system, name, replace(experiment, reads=share), more=more)
