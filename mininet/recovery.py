"""What is done in the cells of the comparison `recovery`.

Each time that a node comes back is a line of `recovery.jsonl`, in seconds from its start: until it
took connections of clients, until it was level, and for a damaged log until it said
that nothing in it is in doubt any more.
"""

import json
import random
import time
from dataclasses import replace

from compare import one_load
from recovery_plan import MIB
from snapshot import Journal
from torture_damage import damage

BACK_S = 300
POLL_S = 0.005
# What is written around each snapshot, so that a whole segment lies between two of them.
TRUNCATED_MIB = 32
BY_SNAPSHOT = "at once, by a snapshot"
DAMAGED = "the log is damaged"


def one_cell(lab, cell, system, _links):
    """All steps, in the order in which the log grows."""
    system.start_all()
    steps = Steps(lab, cell, system)
    mib = system.experiment.written_mib
    steps.write(mib)
    steps.come_back("restart")
    steps.come_back("catch-up", mib)
    if system.name == "loggos":
        # Before there is a snapshot with all that the damage may take.
        repair(steps)
        by_snapshot(steps)


def by_snapshot(steps):
    """A follower that was away until the others had truncated what it needs."""
    node = steps.kill()
    for _ in range(2):
        steps.write(TRUNCATED_MIB)
        for other in steps.system.running():
            take_snapshot(steps.system, other)
    said = steps.start(node, "snapshot", 2 * TRUNCATED_MIB)
    if not any(BY_SNAPSHOT in line for line in said):
        raise RuntimeError(f"n{node} caught up, but not by a snapshot")


def repair(steps):
    """A follower whose log was damaged while it was down."""
    node = steps.kill()
    home = steps.system.home(steps.system.star.nodes[node])
    found = damage(home / "data", random.Random(steps.system.experiment.seed), ways=("sectors",))
    if found is None:
        raise RuntimeError(f"the log of n{node} is too small to be damaged")
    said = steps.start(node, "repair", damage=found.words)
    if not any(DAMAGED in line for line in said):
        raise RuntimeError(f"n{node} did not find the damage: {found.words}")


def take_snapshot(system, node):
    """Has a node take a snapshot, and waits for it."""
    process = system.snapshot(node)
    process.communicate(timeout=BACK_S)
    if process.returncode != 0:
        raise RuntimeError(f"n{node} took no snapshot: exit code {process.returncode}")


class Steps:
    """Writes, kills and starts, and notes how long each start took."""

    def __init__(self, lab, cell, system):
        self.lab = lab
        self.cell = cell
        self.system = system
        self.journal = Journal(system.run_dir / "recovery.jsonl")
        self.written = 0
        self.loads = 0

    def write(self, mib):
        """Writes so much, in as many loads as it takes."""
        experiment = self.system.experiment
        until = self.written + mib * MIB
        while self.written < until:
            self.loads += 1
            operations = -(-(until - self.written) // experiment.value_size)
            load = replace(experiment, duration_s=max(operations / experiment.rate, 0.1))
            name = f"bench-{self.loads:03d}"
            one_load(self.lab, self.cell, self.system, name, load, experiment.rate)
            for path in self.system.run_dir.glob(f"{name}-*.json"):
                report = json.loads(path.read_text())
                self.written += report["writes"]["ok"] * experiment.value_size

    def come_back(self, step, away_mib=0):
        """A follower is killed and started; meanwhile so much is written."""
        node = self.kill()
        self.write(away_mib)
        self.start(node, step, away_mib)

    def kill(self):
        """Kills a follower."""
        node = self.system.followers()[0]
        self.system.kill(node)
        return node

    def start(self, node, step, away_mib=0, **more):
        """Starts a node that was killed, and waits until it is level and sure of its log; returns
        what it said."""
        system = self.system
        goal = max(system.progress().values())
        lines = len(system.log_lines(node))
        disk = system.disk_bytes(node)
        begin = time.monotonic()
        system.start(node)
        # Until then it is not asked: `loggos status` waits for nodes that do not answer.
        serving_s = self._until(begin, lambda: system.accepts(node), f"n{node} did not serve")
        level_s = self._until(
            begin, lambda: system.progress().get(node, -1) >= goal, f"n{node} was not level"
        )
        if step == "repair":
            more["repaired_s"] = self._until(
                begin, lambda: system.is_sure(node), f"n{node} did not repair its log"
            )
        said = system.log_lines(node)[lines:]
        self.journal.note(
            step, node=node, written_mib=self.written / MIB, away_mib=away_mib,
            disk_mib=disk / MIB, serving_s=serving_s, level_s=level_s,
            by_snapshot=any(BY_SNAPSHOT in line for line in said), said=said, **more,
        )  # fmt: skip
        system.wait_ready()
        return said

    def _until(self, begin, holds, words):
        """Waits until something holds; returns how long after `begin` that was."""
        while time.monotonic() - begin < BACK_S:
            self.system.check_alive()
            if holds():
                return time.monotonic() - begin
            time.sleep(POLL_S)
        raise RuntimeError(f"{words} within {BACK_S} s; logs: {self.system.logs()}")
