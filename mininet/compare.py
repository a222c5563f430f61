"""What is done in the cells of the comparisons; a cluster is deployed, and not yet started."""

import json
import time
from dataclasses import replace

import loads
import usage
from faults import At, Schedule
from files import note, write_json

# strace shows these with the time at which they began. Only they stop a node: the filter is the
# kernel's. -D: the node, not strace, is our child, so its id and exit code are its own.
SYNCS = "fsync,fdatasync,sync_file_range,msync,syncfs"
# So much of the measured time lies before and behind the two counts.
MARGIN = 0.1


def steady(lab, cell, system, _links):
    """Rising rates, up to some at which the system does not keep up; or rising closed loops."""
    experiment = system.experiment
    system.start_all()
    if not system.open_loop:
        for number in experiment.outstanding:
            load = replace(experiment, clients=1, in_flight=number)
            one_load(lab, cell, system, f"bench-closed-{number:06d}", load)
        return
    behind = 0
    for rate in experiment.rates:
        done = one_load(lab, cell, system, f"bench-open-{rate:06d}", experiment, rate)
        behind = behind + 1 if done < experiment.keeps_up * rate else 0
        if behind > experiment.beyond:
            break


def cdf(lab, cell, system, _links):
    """A closed loop, an open one at a share of it, and open ones at fixed rates."""
    experiment = system.experiment
    system.start_all()
    most = one_load(lab, cell, system, "bench-closed", experiment)
    share = round(experiment.share * most)
    one_load(lab, cell, system, "bench-share", experiment, share, trace=True)
    for rate in experiment.rates:
        one_load(lab, cell, system, f"bench-rate-{rate:06d}", experiment, rate, trace=True)


def sizes(lab, cell, system, _links):
    """One operation at a time, then a closed loop of many."""
    experiment = system.experiment
    system.start_all()
    one_load(lab, cell, system, "bench-latency", replace(experiment, clients=1, in_flight=1))
    one_load(lab, cell, system, "bench-throughput", experiment)


def failover(lab, cell, system, links):
    """One load, and meanwhile the schedule."""
    experiment = system.experiment
    system.start_all()
    events = Schedule(experiment.schedule, system, links, system.run_dir / "faults.jsonl")
    one_load(lab, cell, system, "bench", experiment, experiment.rate, events, trace=True)


def cost(lab, cell, system, _links):
    """A light load and a closed loop, with what the nodes use counted twice in each."""
    experiment = system.experiment
    if experiment.count_syncs:
        trace_syncs(system)
    system.start_all()
    write_json(system.run_dir / "idle.json", usage.memory_kib(system))
    # Histories are read back at the end, which would be counted with the rest.
    load = replace(experiment, histories=False)
    loops = {"light": experiment.rate} if system.open_loop else {}
    for name, rate in {**loops, "closed": None}.items():
        counts = Counts(system, f"bench-{name}", load)
        one_load(lab, cell, system, f"bench-{name}", load, rate, counts)


def one_load(lab, cell, system, name, load, rate=None, events=None, trace=False, more=()):
    """One load from its start to its report; returns operations a second."""
    seed = load.seed + 1000 * cell.repeat
    labels = loads.one_load(lab, system, name, rate, seed, events, more, load, trace)
    reports = []
    for label in labels:
        system.load_ended(label)
        reports.append(json.loads((system.run_dir / f"{label}.json").read_text()))
    if load.histories and system.open_loop and not events:
        loads.judge_now(lab, system, labels)
    return sum(report["throughput"] for report in reports)


def trace_syncs(system):
    """Has all nodes show when they sync, from their start on."""
    for node in system.nodes:
        system.wrappers[node] = [
            "strace", "-D", "-f", "-qq", "-ttt", "--seccomp-bpf", "-e", f"trace={SYNCS}",
            "-e", "signal=none",
            "-o", str(system.run_dir / f"syncs-n{node}.txt"),
        ]  # fmt: skip


class Counts:
    """Two counts of what a system uses, some time apart, while a load runs: in place of a
    schedule of faults."""

    def __init__(self, system, label, load):
        margin_s = MARGIN * load.duration_s
        first, last = load.warmup_s + margin_s, load.warmup_s + load.duration_s - margin_s
        self.pending = [At(first, "first"), At(last, "last")]
        self.system = system
        self.label = label

    def run_due(self, elapsed_s):
        """Counts if it is time."""
        if self.pending and self.pending[0].seconds <= elapsed_s:
            event = self.pending.pop(0)
            line = {"label": self.label, "count": event.action, **self._count()}
            note(self.system.run_dir / "usage.jsonl", line)
        return []

    def _count(self):
        return {
            "wall_s": time.time(),
            "monotonic_s": time.monotonic(),
            "processor_s": usage.processor_s(self.system),
            "memory_kib": usage.memory_kib(self.system),
            "sent": usage.sent(self.system.star),
            "disk": usage.disk(self.system.run_dir),
        }
