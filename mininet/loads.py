"""Loads from their start to their end, and the experiment that is one of them with faults."""

import time

import judge
from faults import Schedule
from files import write_json
from judge import CheckFailed
from lab import CHECK_FAILED

# A load generator that is told to stop at a time may first wait for its last replies and check.
BENCH_GRACE_S = 60
AGREE_S = 20
# How long writing the keys before the load may take.
FILL_S = 300


def play_timeline(lab):
    """One load, and meanwhile the schedule."""
    system, links = start(lab)
    experiment = lab.experiment
    schedule = Schedule(experiment.schedule, system, links, lab.run_dir / "faults.jsonl")
    one_load(lab, system, "bench", experiment.rate, experiment.seed, schedule)
    end(lab, system)


def start(lab):
    """Builds and starts the cluster of an experiment that has only one."""
    system, links = lab.deploy(lab.experiment, lab.run_dir)
    system.start_all()
    lab.say(f"  {len(system.nodes)} nodes are up, n{system.leader()} leads; {links.backend}")
    return system, links


def end(lab, system):
    """Waits until all nodes agree, and ends them cleanly."""
    write_json(system.run_dir / "status" / "end.json", system.settle(AGREE_S))
    system.stop()
    lab.say(f"  all nodes agree and ended cleanly, {lab.elapsed_s():.0f} s in all")


def judge_now(lab, system, labels):
    """Judges the histories of these loads, and then away with them: together with those of many
    others they would be very large."""
    if system.experiment.histories:
        paths = [system.history(label) for label in labels]
        judge.files(system.binary, paths, lab.verdicts)
        for path in paths:
            path.unlink()


def one_load(lab, system, name, rate, seed, schedule=None, more=(), load=None, trace=None):
    """One load from its start to the load generators' exit; returns their labels. They take `more`
    arguments. `load` is an experiment that says what they do, if it is not the system's own; each
    operation is traced if there is a schedule, unless `trace` says otherwise."""
    load = load or system.experiment
    total_s = load.warmup_s + load.duration_s
    pending = schedule.pending if schedule else []
    trace = bool(pending) if trace is None else trace
    benches = system.bench(rate, seed, name, trace, load=load, more=more)
    begin = time.monotonic()
    while True:
        elapsed = time.monotonic() - begin
        for label in schedule.run_due(elapsed) if schedule else []:
            lab.progress.event(elapsed, label)
        system.check_alive()
        if ended(system, benches):
            break
        if elapsed > total_s + BENCH_GRACE_S:
            raise RuntimeError(f"the load generator did not end in time: {system.log_tail(name)}")
        following = f"{elapsed:6.1f} s of {total_s:g} s"
        if pending:
            following += f", next at {pending[0].seconds:g} s"
        lab.progress.count(elapsed, total_s, following)
        # Sleeps up to the next event, so that it is not late by a whole turn of this loop.
        wait = 0.2
        if pending:
            wait = min(wait, pending[0].seconds - (time.monotonic() - begin))
        time.sleep(max(wait, 0))
    if pending:
        raise RuntimeError(f"the load ended before {len(pending)} events of the schedule")
    return list(benches)


def wait_filled(system, benches, keys):
    """Waits until the state is as large as it shall be."""
    deadline = time.monotonic() + FILL_S
    while time.monotonic() < deadline:
        ended(system, benches)
        if all(answer["keys"] >= keys for answer in system.status().values()):
            return
        time.sleep(0.2)
    raise RuntimeError(f"{keys:,} keys were not written within {FILL_S} s")


def wait_ended(system, benches):
    """Waits until load generators that were told to end have ended, their checks included."""
    deadline = time.monotonic() + BENCH_GRACE_S
    while not ended(system, benches):
        if deadline < time.monotonic():
            raise RuntimeError(f"the load generators did not end within {BENCH_GRACE_S} s")
        time.sleep(0.05)


def ended(system, benches):
    """Whether all load generators have ended; raises if one ended badly."""
    codes = {label: process.poll() for label, process in benches.items()}
    for label, code in codes.items():
        if code == CHECK_FAILED:
            raise CheckFailed(f"the check failed: {system.log_tail(label)}")
        if code not in (None, system.load_exit):
            raise RuntimeError(f"the load generator ended with {code}: {system.log_tail(label)}")
    return all(code == system.load_exit for code in codes.values())
