"""The experiment `timeouts`: election timeouts of so many round trips.

Each has a cluster of its own, which is watched while nothing is wrong, and then while its leader is
dead: its links cut and its process killed, so that nobody is told. `cells.jsonl` in the cluster's
folder has a line for each time, with times of CLOCK_MONOTONIC.
"""

import signal
import time
from dataclasses import replace

import loads
from experiment import node_names
from files import note
from reads import now_ns, wait_well
from shaping import Shape, uniform
from stretch import pass_time
from well import agreed_leader

# How long all may take until all is well with such a timeout, before it is taken for too short.
WELL_S = 10
POLL_S = 0.05


def play(lab):
    """A cluster for each round trip and timeout."""
    experiment = lab.experiment
    for round_trip_ms in experiment.round_trips_ms:
        for factor in experiment.factors:
            timeout_ms = round(round_trip_ms * factor)
            lab.say(
                f"  {lab.elapsed_s():6.1f} s  round trip {round_trip_ms:g} ms, "
                f"election timeout {timeout_ms} ms"
            )
            one_cluster(lab, round_trip_ms, factor, timeout_ms)
            # The next cluster's hosts have the same names.
            lab.take_down()


def one_cluster(lab, round_trip_ms, factor, timeout_ms):
    """A cluster with this timeout, watched and ended."""
    experiment = replace(lab.experiment, election_timeout_ms=timeout_ms)
    folder = lab.run_dir / f"{experiment.nodes}-nodes-rtt-{round_trip_ms:g}-timeout-{timeout_ms}"
    system, links = lab.deploy(experiment, folder)
    # Near to each other at first: with some of the timeouts they would never begin.
    system.start_all()
    wait_well(system, {})
    benches = dict(system.attach(node) for node in system.nodes)
    pass_time(system, benches, 1)
    pairs = uniform(node_names(experiment.nodes), Shape(round_trip_ms / 2))
    lab.environment["round_trips"] = lab.environment.get("round_trips", {}) | {
        folder.name: links.shape(pairs, experiment.seed)
    }
    lab.environment["links"] = links.describe()
    pass_time(system, benches, 1 + 2 * timeout_ms / 1000)
    for repeat in range(1, experiment.repeats + 1):
        about = {
            "round_trip_ms": round_trip_ms, "factor": factor, "timeout_ms": timeout_ms,
            "repeat": repeat,
        }  # fmt: skip
        begin_ns = now_ns()
        pass_time(system, benches, experiment.calm_s)
        times = {"begin_ns": begin_ns, "end_ns": now_ns()}
        note(folder / "cells.jsonl", {**about, "kind": "calm", **times})
        leader = leader_within(system, WELL_S)
        line = {**about, "kind": "death", "leader": leader}
        if leader is not None:
            line |= death(system, links, benches, leader)
        note(folder / "cells.jsonl", line)
    links.shape({}, experiment.seed)
    wait_well(system, benches)
    for process in benches.values():
        # As by Ctrl-C: they then check what they did.
        process.send_signal(signal.SIGINT)
    loads.wait_ended(system, benches)
    loads.end(lab, system)


def death(system, links, benches, leader):
    """The leader is gone for a time, and comes back; returns when that was."""
    experiment = system.experiment
    timeout_s = experiment.election_timeout_ms / 1000
    others = [node for node in system.nodes if node != leader]
    death_ns = now_ns()
    links.cut([pair for it in others for pair in ((leader, it), (it, leader))])
    system.kill(leader)
    pass_time(system, benches, max(experiment.dead_timeouts * timeout_s, experiment.dead_s_min))
    end_ns = now_ns()
    links.heal()
    system.start(leader)
    pass_time(system, benches, 1 + 4 * timeout_s)
    return {"death_ns": death_ns, "end_ns": end_ns}


def leader_within(system, limit_s):
    """The leader whom all follow, None if there is none for so long."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        system.check_alive()
        leader = agreed_leader(system.status(), system.nodes)
        if leader is not None:
            return leader
        time.sleep(POLL_S)
    return None
