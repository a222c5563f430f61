#!/usr/bin/python3
"""Runs an experiment on emulated hosts and leaves a folder of raw results.

    sudo /usr/bin/python3 mininet/run.py --experiment failover

Needs root, Mininet, and the built binary; `make mininet-experiment` sees to all of it and draws the
figures afterwards. Exit codes: 0 the run is good, 1 it failed, 2 wrong use, 5 an acknowledged
operation was lost or took effect twice, or `loggos check` found the histories or traces wrong,
128 + n interrupted by signal n.
"""

import argparse
import os
import shutil
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import sandbox
import shaping
from experiments import (
    EXPERIMENTS,
    Partition,
    Quorums,
    Rates,
    Reads,
    Reconfigure,
    Snapshot,
    Timeline,
)
from faults import words
from scenarios import of_experiment

REPOSITORY = Path(__file__).resolve().parent.parent
TOOLS = ("mnexec", "brctl", "ifconfig", "nft", "ip", "ping", "sysctl", "unshare", "strace", "tc")
# What a network needs besides whose links are shaped.
SHAPING_TOOLS = ("iptables", "ethtool", "nsenter")


def main():
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="list the experiments")
    parser.add_argument("--experiment", metavar="NAME", default="failover", help="[failover]")
    parser.add_argument("--quick", action="store_true", help="a shorter run")
    parser.add_argument("--dry-run", action="store_true", help="show the schedule, run nothing")
    parser.add_argument("--needs", action="store_true", help="what to build besides Loggos")
    parser.add_argument("--binary", type=Path, default=REPOSITORY / "target/release/loggos")
    parser.add_argument("--results", type=Path, default=REPOSITORY / "results")
    parser.add_argument("--run-id", default=time.strftime("%Y%m%d-%H%M%S"), help="[date and time]")
    parser.add_argument("--run-dir", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.list:
        for experiment in EXPERIMENTS.values():
            print(f"{experiment.name:12} {experiment.title}")
        return 0
    if options.experiment not in EXPERIMENTS:
        known = ", ".join(EXPERIMENTS)
        print(f"run.py: no experiment {options.experiment!r}; there are: {known}", file=sys.stderr)
        return 2
    experiment = EXPERIMENTS[options.experiment]
    if options.quick:
        experiment = experiment.quick()
    if options.dry_run:
        show(experiment)
        return 0
    if options.needs:
        if experiment.is_shaped() and not shaping.have_netem():
            print("shaper")
        return 0
    if sandbox.is_inside():
        # Only here, where Mininet is known to be installed.
        import runner  # noqa: PLC0415

        sandbox.interrupt_on_signals()
        return runner.run(experiment, options.binary, options.run_dir)
    missing = what_is_missing(options.binary, experiment)
    if missing:
        print(f"run.py: {missing}", file=sys.stderr)
        return 1
    return run_outside(options)


def run_outside(options):
    """Makes the run's folder, runs inside, and hands the folder to whoever called sudo."""
    experiment_dir = options.results.resolve() / options.experiment
    run_dir = experiment_dir / options.run_id
    run_dir.mkdir(parents=True)
    arguments = [
        "--experiment", options.experiment,
        "--binary", str(options.binary.resolve()),
        "--run-dir", str(run_dir),
        *(["--quick"] if options.quick else []),
    ]  # fmt: skip
    try:
        with allowed(EXPERIMENTS[options.experiment].congestion_control):
            code = sandbox.run_inside(arguments)
    finally:
        hand_over([options.results.resolve(), experiment_dir], run_dir)
    # The last line, for whoever goes on with it.
    print(f"results: {run_dir}", flush=True)
    return code


@contextmanager
def allowed(congestion_control):
    """Lets emulated hosts choose this congestion control while the run lasts.

    A network namespace may only choose from a list that belongs to the machine, which may hold no
    more than the machine's own default.
    """
    path = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
    before = path.read_text(encoding="ascii").strip()
    if congestion_control in before.split():
        yield
        return
    path.write_text(f"{before} {congestion_control}", encoding="ascii")
    try:
        yield
    finally:
        path.write_text(before, encoding="ascii")


def hand_over(parents, run_dir):
    """Gives what root wrote to the user who called sudo."""
    if "SUDO_UID" not in os.environ:
        return
    user, group = int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"])
    for path in [*parents, run_dir, *run_dir.rglob("*")]:
        os.chown(path, user, group, follow_symlinks=False)


def what_is_missing(binary, experiment):
    """One line that says what an experiment lacks on this machine, None if nothing."""
    if os.geteuid() != 0:
        return "network namespaces need root: run it with sudo"
    tools = TOOLS + (SHAPING_TOOLS if experiment.is_shaped() else ())
    absent = [tool for tool in tools if not shutil.which(tool)]
    try:
        import mininet.net  # noqa: F401, PLC0415
    except ImportError:
        absent.append("the Python package mininet")
    if absent:
        return f"not installed: {', '.join(absent)}; `scripts/setup.sh mininet` installs them"
    if not binary.is_file():
        return f"{binary} does not exist: build it with `make build`, or give --binary"
    return shaping.what_is_missing() if experiment.is_shaped() else None


def show(experiment):
    """What an experiment does, without running it."""
    print(f"{experiment.name}: {experiment.title}")
    if hasattr(experiment, "words"):
        print("\n".join(f"  {line}" for line in experiment.words()))
    else:
        show_cluster(experiment)


def show_cluster(experiment):
    """What an experiment of `experiments.py` does."""
    print(f"  {experiment.nodes} nodes, {experiment.clients} clients, {experiment.workload}")
    match experiment:
        case Rates():
            total = experiment.warmup_s + experiment.duration_s
            rates = ", ".join(f"{rate:,}" for rate in experiment.rates)
            print(f"  {len(experiment.rates)} rates, {experiment.repeats} times, {total:g} s each:")
            print(f"  {rates} operations/s")
        case Timeline():
            total = experiment.warmup_s + experiment.duration_s
            print(f"  {0:6.1f} s  load begins: {experiment.rate:,} operations/s")
            for event in experiment.schedule:
                print(f"  {event.seconds:6.1f} s  {words(event.action)}")
            print(f"  {total:6.1f} s  load ends")
        case Quorums():
            for nodes, phase1, phase2 in experiment.choices:
                print(f"  {nodes} nodes, q1={phase1} q2={phase2}")
        case Reads():
            total = experiment.warmup_s + experiment.duration_s
            rates = ", ".join(f"{rate:,}" for rate in experiment.rates)
            print(f"  reads by {', '.join(experiment.ways)}; for each of them")
            print(f"  {len(experiment.rates)} rates, {experiment.repeats} times, {total:g} s each:")
            print(f"  {rates} operations/s")
            print(f"  {experiment.deaths} leaders die, each for {experiment.dead_s:g} s")
        case Reconfigure():
            print(f"  members n{', n'.join(str(node) for node in experiment.members)}")
            for old, new in experiment.replacements:
                print(f"  n{old} is replaced by n{new}")
        case Snapshot():
            print(f"  {experiment.keys:,} keys of {experiment.value_size} bytes")
            print(
                f"  {experiment.rounds} x {experiment.stretch_s:g} s calm, as long with snapshots"
            )
            print(f"  {experiment.writes:,} writes; restarts")
        case Partition():
            for nodes in experiment.sizes:
                print(f"  {nodes} nodes:")
                for scenario in of_experiment(experiment, nodes):
                    times = len(scenario.plays(experiment))
                    print(f"  {times:4} x {scenario.name:14} {scenario.words}")


if __name__ == "__main__":
    sys.exit(main())
