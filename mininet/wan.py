"""The experiment `wan`: a node and clients in each region, which talk to the node of their own.

Each way of a linearizable read has a cluster of its own, for each region that leads.
"""

import loads
from files import write_json
from stretch import until_ended
from systems.loggos import Setup


def play(lab):
    """A cluster for each leader and way."""
    experiment = lab.experiment
    for region in experiment.leaders:
        for way in experiment.ways:
            lab.say(f"  {lab.elapsed_s():6.1f} s  led from {region}, reads by {way}")
            one_cluster(lab, region, way)
            # The next cluster's hosts have the same names.
            lab.take_down()


def one_cluster(lab, region, way):
    """A cluster led from a region, its loads, and its end."""
    experiment = lab.experiment
    leader = 1 + experiment.regions.index(region)
    others = (node for node in range(1, experiment.nodes + 1) if node != leader)
    folder = lab.run_dir / f"{experiment.nodes}-nodes-{region}-{way}"
    setup = Setup(
        roles=dict.fromkeys(others, ("acceptor", "replica")),
        lease_ms=experiment.lease_ms if way == "lease" else 0,
    )
    system, _ = lab.deploy(experiment, folder, setup)
    write_json(folder / "cluster.json", {"leader": region, "way": way})
    system.start_all()
    for repeat in range(1, experiment.repeats + 1):
        benches = {}
        for node, name in enumerate(experiment.regions, 1):
            label = f"bench-{repeat}-{name}"
            seed = experiment.seed + 1000 * repeat + node
            more = ["--consistency", way]
            benches[label] = system.bench_near(node, node, experiment.rate, seed, label, more)
        until_ended(system, benches, experiment.warmup_s + experiment.duration_s)
        loads.judge_now(lab, system, benches)
    loads.end(lab, system)
