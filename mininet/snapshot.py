"""The experiment `snapshot`: what snapshots cost while they are taken, and what they are for.

First a load on a large state, with stretches in which every node takes one snapshot after the
other, all at the same time, and calm ones between. Then writes for as long as it takes, while the
disk is watched. Then restarts on that state. What happened when is in `snapshot.jsonl`, a line
each, with times of CLOCK_MONOTONIC.
"""

import json
import re
import signal
import time
from dataclasses import replace

import loads

RESTART_S = 120
SAMPLE_S = 1.0
POLL_S = 0.05
# What a node says of its restart.
PROGRESS = re.compile(r"snapshot|replay|serving as")


def play(lab):
    """All of it on one cluster."""
    system, _ = loads.start(lab)
    journal = Journal(lab.run_dir / "snapshot.jsonl")
    latency(lab, system, journal)
    long_run(lab, system, journal)
    restarts(lab, system, journal)
    loads.end(lab, system)


class Journal:
    """What was done when, a line each."""

    def __init__(self, path):
        self.path = path

    def note(self, kind, **what):
        """One line."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, **what}) + "\n")

    @staticmethod
    def now_ns():
        """The base of all times."""
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def latency(lab, system, journal):
    """The load, its stretches, and its end."""
    experiment = lab.experiment
    benches = system.bench(experiment.rate, experiment.seed, "bench-latency", trace=True)
    loads.wait_filled(system, benches, experiment.keys)
    lab.say(f"  {lab.elapsed_s():6.1f} s  {experiment.keys:,} keys are there, the load begins")
    time.sleep(experiment.warmup_s)
    for number in range(1, experiment.rounds + 1):
        begin_ns = journal.now_ns()
        time.sleep(experiment.stretch_s)
        journal.note("calm", begin_ns=begin_ns, end_ns=journal.now_ns())
        taken = stretch(system, journal, experiment.stretch_s)
        loads.ended(system, benches)
        lab.say(f"  {lab.elapsed_s():6.1f} s  round {number}: {taken} snapshots")
    for process in benches.values():
        process.send_signal(signal.SIGINT)
    loads.wait_ended(system, benches)
    loads.judge_now(lab, system, benches)


def stretch(system, journal, seconds):
    """Has all nodes take snapshots for a while; returns how many were taken."""
    until = time.monotonic() + seconds
    taken = 0
    running = {}
    while running or time.monotonic() < until:
        for node in system.nodes:
            if node not in running and time.monotonic() < until:
                running[node] = (journal.now_ns(), system.snapshot(node))
        for node, (begin_ns, process) in list(running.items()):
            if process.poll() is None:
                continue
            out, _ = process.communicate()
            if process.returncode != 0:
                raise RuntimeError(f"n{node} took no snapshot: exit code {process.returncode}")
            said = json.loads(out)
            end_ns = journal.now_ns()
            journal.note("snapshot", begin_ns=begin_ns, end_ns=end_ns, **said)
            taken += 1
            del running[node]
        time.sleep(0.01)
    return taken


def long_run(lab, system, journal):
    """Writes on few keys, as fast as replies come, until there are enough; the disk is watched."""
    experiment = replace(
        lab.experiment, keys=10_000, reads=0.0, check=False, histories=False, warmup_s=0,
        duration_s=lab.experiment.watched_s,
    )  # fmt: skip
    written, number = 0, 0
    while written < experiment.writes:
        number += 1
        name = f"bench-long-{number}"
        begin_ns = journal.now_ns()
        benches = system.bench(None, experiment.seed + number, name, False, load=experiment)
        while not loads.ended(system, benches):
            system.check_alive()
            sizes = {f"n{node}": system.disk_bytes(node) for node in system.nodes}
            journal.note("disk", time_ns=journal.now_ns(), **sizes)
            lab.progress.count(written, experiment.writes, f"{written:,} writes")
            time.sleep(SAMPLE_S)
        for label in benches:
            report = json.loads((system.run_dir / f"{label}.json").read_text())
            written += report["writes"]["ok"]
        journal.note("writes", begin_ns=begin_ns, end_ns=journal.now_ns(), total=written)
    lab.say(f"  {lab.elapsed_s():6.1f} s  {written:,} writes more")


def restarts(lab, system, journal):
    """A follower killed and started, then all nodes at once."""
    leader = system.leader()
    follower = next(node for node in system.nodes if node != leader)
    for label, nodes in (("follower", [follower]), ("all nodes", system.nodes)):
        for node in nodes:
            system.kill(node)
        before = len(system.log_lines(nodes[0]))
        begin = time.monotonic()
        for node in nodes:
            system.start(node)
        served_s = None
        while time.monotonic() - begin < RESTART_S:
            system.check_alive()
            answers = system.status()
            if all(node in answers for node in nodes):
                served_s = served_s or time.monotonic() - begin
                if any(answer["leading"] for answer in answers.values()):
                    break
            time.sleep(POLL_S)
        else:
            raise RuntimeError(f"the restart of {label} took more than {RESTART_S} s")
        led_s = time.monotonic() - begin
        said = [line for line in system.log_lines(nodes[0])[before:] if PROGRESS.search(line)]
        journal.note(
            "restart", label=label, nodes=nodes, serving_s=served_s, led_s=led_s, said=said
        )
        lab.say(f"  {lab.elapsed_s():6.1f} s  {label} restarted, serving in {served_s:.1f} s")
        system.wait_ready()
