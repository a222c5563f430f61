"""The experiment `reads`: each way of a linearizable read in a cluster of its own.

First at rising rates: by the leader or its lease, with all clients at the leader, and by quorums,
with each replica serving its share of the clients. Then at a light load, while one leader after the
other dies; `deaths.jsonl` has a line for each, with times of CLOCK_MONOTONIC.
"""

import signal
import time
from dataclasses import replace

import loads
import usage
from files import note, write_json
from mix_plan import TARGETS
from systems.loggos import Setup
from well import agreed_leader

# A node's process is killed, and its kernel tells everybody; or its machine is gone, and nobody is
# told. (Its clients are, so that the time is that of the cluster.)
PROCESS, MACHINE = "process", "machine"
# How long a node that died may take until it is level with the others.
WELL_S = 60
POLL_S = 0.1
# Longer than all deaths: the load is told to end.
DEATHS_S = 3600


def play(lab):
    """All ways, one after the other."""
    for way in lab.experiment.ways:
        lab.say(f"  {lab.elapsed_s():6.1f} s  reads by {way}")
        one_cluster(lab, way)
        # The next cluster's hosts have the same names.
        lab.take_down()


def one_cluster(lab, way):
    """A cluster whose reads go this way, measured and ended."""
    experiment = lab.experiment
    folder = lab.run_dir / f"{experiment.nodes}-nodes-{way}"
    setup = Setup(lease_ms=experiment.lease_ms if way == "lease" else 0)
    system, links = lab.deploy(experiment, folder, setup)
    write_json(folder / "cluster.json", {"way": way})
    system.start_all()
    for repeat in range(1, experiment.repeats + 1):
        for rate in experiment.rates:
            seed = experiment.seed + 1000 * repeat
            name = f"bench-{rate:06d}-{repeat}"
            load = ["--consistency", way, "--target", TARGETS[way]]
            before = usage.processor_s(system)
            labels = loads.one_load(lab, system, name, rate, seed, more=load)
            spent = {
                n: round(after - before[n], 3) for n, after in usage.processor_s(system).items()
            }
            for label in labels:
                note(folder / "processors.jsonl", {"label": label, "seconds": spent})
            loads.judge_now(lab, system, labels)
    deaths(lab, system, links, way)
    loads.end(lab, system)


def deaths(lab, system, links, way):
    """A light load, and meanwhile each leader dies as soon as all is well."""
    experiment = lab.experiment
    # Clients at all replicas, whichever way: those of the leader lose their connection.
    more = ["--consistency", way, "--target", "spread"]
    load = replace(experiment, duration_s=DEATHS_S)
    rate, seed = experiment.death_rate, experiment.seed
    benches = system.bench(rate, seed, "bench-deaths", trace=True, load=load, more=more)
    time.sleep(experiment.warmup_s)
    for number in range(experiment.deaths):
        of = MACHINE if number % 2 else PROCESS
        leader = wait_well(system, benches)
        calm_ns = now_ns()
        time.sleep(experiment.dead_s)
        death_ns = now_ns()
        if of == MACHINE:
            others = [node for node in system.nodes if node != leader]
            links.cut([pair for it in others for pair in ((leader, it), (it, leader))])
        system.kill(leader)
        time.sleep(experiment.dead_s)
        end_ns = now_ns()
        links.heal()
        system.start(leader)
        line = {"node": leader, "of": of, "calm_ns": calm_ns, "death_ns": death_ns}
        note(system.run_dir / "deaths.jsonl", line | {"end_ns": end_ns})
    wait_well(system, benches)
    lab.say(f"  {lab.elapsed_s():6.1f} s  {experiment.deaths} leaders died")
    for process in benches.values():
        # As by Ctrl-C.
        process.send_signal(signal.SIGINT)
    loads.wait_ended(system, benches)
    loads.judge_now(lab, system, benches)


def wait_well(system, benches):
    """Waits until all nodes are level and agree on the leader; returns it."""
    deadline = time.monotonic() + WELL_S
    while time.monotonic() < deadline:
        system.check_alive()
        loads.ended(system, benches)
        answers = system.status()
        leader = agreed_leader(answers, system.nodes)
        if leader is not None:
            return leader
        time.sleep(POLL_S)
    raise RuntimeError(f"all was not well within {WELL_S} s; the nodes that answer: {answers}")


def now_ns():
    """The base of all traces."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)
