"""The experiment `partition`: cuts links in every way of `scenarios.py`, again and again.

One deployment a cluster size: wait until all is well, cut, watch, heal, and so on. Each course is a
line of `cuts.jsonl` in the deployment's folder, with its times of CLOCK_MONOTONIC.
"""

import json
import random
import signal
import time
from dataclasses import dataclass, replace

import loads
import scenarios

WELL_S = 30
# And so many election timeouts.
WELL_TIMEOUTS = 10
POLL_S = 0.03
# How often a course is played until the machine did not stand still meanwhile.
ATTEMPTS = 5


def play(lab):
    """All scenarios at all cluster sizes."""
    for nodes in lab.experiment.sizes:
        experiment = replace(lab.experiment, nodes=nodes)
        system, links = lab.deploy(experiment, lab.run_dir / f"{nodes}-nodes")
        system.start_all()
        lab.say(f"  {nodes} nodes are up, n{system.leader()} leads; {links.backend}")
        clients = dict(system.attach(node) for node in system.nodes)
        cutter = Cutter(lab, system, links, clients)
        try:
            for scenario in scenarios.of_experiment(experiment, nodes):
                cutter.play(scenario)
        finally:
            links.heal()
        cutter.wait_well()
        cutter.end_clients()
        loads.end(lab, system)
        # The next cluster's hosts have the same names.
        lab.take_down()


@dataclass
class Cutter:
    """Plays scenarios on a cluster that has clients."""

    lab: object
    system: object
    links: object
    clients: dict

    def __post_init__(self):
        experiment = self.system.experiment
        self.timeout_s = experiment.election_timeout_ms / 1000
        self.dice = random.Random(experiment.seed)
        self.path = self.system.run_dir / "cuts.jsonl"

    def play(self, scenario):
        """All repetitions of all cases."""
        plays = scenario.plays(self.system.experiment)
        for number, case in enumerate(plays, 1):
            text = f"{len(self.system.nodes)} nodes, {scenario.name} {case.name}"
            self.lab.progress.count(number, len(plays), text)
            about = {"scenario": scenario.name, "case": case.name, "repetition": number}
            self.play_case(case, about)
        elapsed_s = self.lab.elapsed_s()
        self.lab.say(f"  {elapsed_s:6.1f} s  {len(plays):3} x {scenario.name}: {scenario.words}")

    def play_case(self, case, about):
        """One case, until the machine did not stand still meanwhile; each course of it is a line.
        Returns whether there was such a course."""
        leader = self.wait_well()
        for _ in range(ATTEMPTS):
            followers = [node for node in self.system.nodes if node != leader]
            self.dice.shuffle(followers)
            line = self._course(case, [leader, *followers])
            leader = self.wait_well()
            line |= {"well_ns": self._now_ns()}
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps({**about, **line}) + "\n")
            if not line["disturbed"]:
                return True
        return False

    def end_clients(self):
        """Tells all clients to end, and waits until they have."""
        for process in self.clients.values():
            # As by Ctrl-C: they then check what they did.
            process.send_signal(signal.SIGINT)
        loads.wait_ended(self.system, self.clients)

    def _course(self, case, names):
        """One course on these nodes, the leader first; returns its times."""
        # Anywhere between two heartbeats.
        time.sleep(self.dice.random() * self.timeout_s)
        times = {"begin_ns": self._now_ns()}
        at = time.monotonic()
        for phase in case.before:
            at = self._pass(phase, names, at)
        times["cut_ns"] = self._now_ns()
        for phase in case.phases:
            at = self._pass(phase, names, at)
        times["heal_ns"] = self._now_ns()
        # Where this process was not woken in time, the nodes were not either.
        late_s = time.monotonic() - at
        self.links.heal()
        linked = self._linked(case.phases[-1], names)
        return {
            "roles": names,
            "linked": linked,
            "once": case.once,
            "disturbed": late_s > self.timeout_s / 2,
            **times,
        }

    def _pass(self, phase, names, at):
        """Sets the links, and lets the phase pass; returns when it ended."""
        cut = {(names[a], names[b]) for a, b in phase.cut}
        lossy = {(names[a], names[b]) for a, b in phase.lossy}
        self.links.set(cut, lossy)
        end = at + phase.timeouts * self.timeout_s
        time.sleep(max(end - time.monotonic(), 0))
        return end

    def _linked(self, phase, names):
        """The nodes with a whole link to another one: their clients can be served."""
        cut = {(names[a], names[b]) for a, b in phase.cut}
        whole = [(a, b) for a in names for b in names if a != b and not {(a, b), (b, a)} & cut]
        return sorted({node for link in whole for node in link})

    def wait_well(self):
        """Waits until all nodes hear all, follow one leader and are level; returns the leader."""
        limit_s = WELL_S + WELL_TIMEOUTS * self.timeout_s
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            self.system.check_alive()
            loads.ended(self.system, self.clients)
            leader = self.system.well()
            if leader is not None:
                return leader
            time.sleep(POLL_S)
        raise RuntimeError(
            f"not all was well within {limit_s:g} s of a heal; logs: {self.system.logs()}"
        )

    @staticmethod
    def _now_ns():
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC)
