"""The experiment `quorums`: every choice of quorum sizes in a cluster of its own.

Nodes differ by their disks, not by their links: strace makes syncs take longer.
"""

from dataclasses import replace

import loads
from files import write_json
from systems.loggos import Setup


def play(lab):
    """All choices, with equal disks and with unequal ones."""
    experiment = lab.experiment
    for slower_ms in experiment.slower_ms:
        for nodes, phase1, phase2 in experiment.choices:
            disks = f"{slower_ms} ms slower each" if slower_ms else "equal disks"
            lab.say(f"  {lab.elapsed_s():6.1f} s  {nodes} nodes, q1={phase1} q2={phase2}, {disks}")
            one_cluster(lab, nodes, (phase1, phase2), slower_ms)
            # The next cluster's hosts have the same names.
            lab.take_down()


def one_cluster(lab, nodes, quorums, slower_ms):
    """A cluster with these quorums, measured and ended."""
    experiment = replace(lab.experiment, nodes=nodes)
    setup = Setup(
        quorums=quorums,
        roles={node: ("acceptor", "replica") for node in range(2, nodes + 1)},
        slow_sync_ms={node: slower_ms * (node - 1) for node in range(1, nodes + 1)},
    )
    folder = lab.run_dir / f"{nodes}-nodes-q2-{quorums[1]}-slower-{slower_ms}"
    system, _ = lab.deploy(experiment, folder, setup)
    about = {"nodes": nodes, "phase1": quorums[0], "phase2": quorums[1], "slower_ms": slower_ms}
    write_json(folder / "cluster.json", about)
    system.start_all()
    for repeat in range(1, experiment.repeats + 1):
        for name, rate in (("latency", experiment.rate), ("throughput", None)):
            seed = experiment.seed + 1000 * repeat
            label = f"bench-{name}-{repeat}"
            labels = loads.one_load(lab, system, label, rate, seed)
            loads.judge_now(lab, system, labels)
    loads.end(lab, system)
