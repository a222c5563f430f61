#!/usr/bin/python3
"""Runs an experiment on emulated hosts and leaves a folder of raw results.

    sudo /usr/bin/python3 mininet/run.py --experiment failover

Needs root, Mininet, and the built binary; `make mininet-experiment` sees to all of it and draws the
figures afterwards. Exit codes: 0 the run is good, 1 it failed, 2 wrong use, 5 an acknowledged
operation was lost or took effect twice, or `loggos check` found the histories or traces wrong,
128 + n interrupted by signal n.
"""

import argparse
import fcntl
import os
import shutil
import sys
import textwrap
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import resume
import sandbox
import shaping
from comparisons import Comparison
from experiments import (
    COMPARISONS,
    EXPERIMENTS,
    REPORTED,
    Partition,
    Quorums,
    Reads,
    Reconfigure,
    Snapshot,
    Timeline,
)
from faults import words
from scenarios import of_experiment
from systems.known import SYSTEMS

REPOSITORY = Path(__file__).resolve().parent.parent
TOOLS = ("mnexec", "brctl", "ifconfig", "nft", "ip", "ping", "sysctl", "unshare", "strace", "tc")
# What a network needs besides whose links are shaped.
SHAPING_TOOLS = ("iptables", "ethtool", "nsenter")
ALL = "all"
# What a script asks for before the run.
NEEDS = ("names", "compared", "setup", "build")
ALLOWED = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
# What the machine allowed before the first of the runs that go on now; else empty.
ALLOWED_BEFORE = Path("/run/loggos-lab-congestion-control")


class WrongUse(Exception):
    """What was asked for does not exist or does not go together; the message says what to do."""


def main():
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="list the experiments")
    parser.add_argument("--experiment", metavar="NAME", default="timeline", help="[timeline]")
    parser.add_argument(
        "--systems", metavar="A,B", default="", help="of a comparison; all [those at hand]"
    )
    parser.add_argument("--quick", action="store_true", help="a shorter run")
    parser.add_argument(
        "--repeats", metavar="N", type=int, help="of a comparison [what the experiment says]"
    )
    parser.add_argument("--dry-run", action="store_true", help="show what is done, run nothing")
    parser.add_argument("--needs", choices=NEEDS, help=argparse.SUPPRESS)
    parser.add_argument("--binary", type=Path, default=REPOSITORY / "target/release/loggos")
    parser.add_argument("--results", type=Path, default=REPOSITORY / "results")
    parser.add_argument(
        "--run-id",
        default=time.strftime("%Y%m%d-%H%M%S"),
        help="one that exists is gone on with [date and time]",
    )
    parser.add_argument("--run-dir", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.list:
        titles = {experiment.name: experiment.title for experiment in EXPERIMENTS.values()}
        titles[ALL] = "All of them but smoke and sample, one after the other, and a report"
        for name, title in titles.items():
            print(textwrap.fill(f"{name:13} {title}", 80, subsequent_indent=" " * 14))
        return 0
    try:
        return go_on(options)
    except WrongUse as wrong:
        print(f"run.py: {wrong}", file=sys.stderr)
        return 2


def go_on(options):
    """What the options ask for, but for the list."""
    if options.needs:
        print(*needs(options))
        return 0
    if options.dry_run:
        for name in names_of(options.experiment):
            show(chosen_experiment(name, options))
        return 0
    if options.experiment == ALL:
        raise WrongUse(f"one at a time here; `make mininet-experiment EXPERIMENT={ALL}` runs all")
    experiment = chosen_experiment(options.experiment, options)
    if sandbox.is_inside():
        # Only here, where Mininet is known to be installed.
        import runner  # noqa: PLC0415

        sandbox.interrupt_on_signals()
        return runner.run(experiment, options.binary, options.run_dir)
    missing = what_is_missing(options.binary, experiment)
    if missing:
        print(f"run.py: {missing}", file=sys.stderr)
        return 1
    return run_outside(options, experiment)


def names_of(word):
    """The experiments that a word stands for."""
    if word == ALL:
        return REPORTED
    if word not in EXPERIMENTS:
        known = ", ".join(EXPERIMENTS)
        raise WrongUse(f"no experiment {word!r}; there are: {known}; {ALL} is all of them")
    return [word]


def chosen_experiment(name, options):
    """The experiment of this name as the options want it."""
    (name,) = names_of(name)
    experiment = EXPERIMENTS[name].quick() if options.quick else EXPERIMENTS[name]
    return with_repeats(with_systems(experiment, options), options.repeats)


def with_repeats(experiment, repeats):
    """A comparison with so many repetitions; None: with its own."""
    if repeats is None:
        return experiment
    if not isinstance(experiment, Comparison):
        raise WrongUse(f"{experiment.name} is no comparison: it has no repetitions to choose")
    if repeats < 1:
        raise WrongUse("of repetitions there must be one at least")
    return replace(experiment, repeats=repeats)


def asked_systems(text):
    """The adapters of these names, in the order of all; none, if nothing is said."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in SYSTEMS and name != ALL]
    if unknown:
        known = ", ".join(SYSTEMS)
        raise WrongUse(f"no system {unknown[0]!r}; there are: {known}; {ALL} is all of them")
    return [it for it in SYSTEMS.values() if it.name in names or ALL in names]


def needs(options):
    """What a script sees to before the run: the names of the experiments, those of them that
    compare cells and can be gone on with, the parts that are to be installed, or to be built."""
    names = names_of(options.experiment)
    if options.needs == "names":
        return names
    if options.needs == "compared":
        return [name for name in names if isinstance(EXPERIMENTS[name], Comparison)]
    asked = asked_systems(options.systems)
    several = any(name in COMPARISONS for name in names)
    if options.needs == "setup":
        return sorted({part for adapter in asked for part in adapter.installed_by})
    # Where nothing is said, all that is at hand is compared, and what can be built here is.
    wanted = asked or (SYSTEMS.values() if several else [])
    parts = {part for adapter in wanted for part in adapter.built_by}
    if any(EXPERIMENTS[name].is_shaped() for name in names) and not shaping.have_netem():
        parts.add("shaper")
    return sorted(parts)


def with_systems(experiment, options):
    """The experiment with its systems: those that are asked for, or of the run that is gone on
    with, or all that are at hand; without those that it does not suit."""
    asked = asked_systems(options.systems)
    if not isinstance(experiment, Comparison):
        if [adapter.name for adapter in asked] not in ([], ["loggos"]):
            raise WrongUse(
                f"{experiment.name} is an experiment of loggos alone; those that compare are: "
                + ", ".join(COMPARISONS)
            )
        return experiment
    there = options.results / experiment.name / options.run_id / "experiment.json"
    if not asked and there.exists():
        asked = [SYSTEMS[name] for name in resume.systems_of(there.parent)]
    chosen, left_out = [], []
    for adapter in asked or SYSTEMS.values():
        unfit = experiment.unfit(adapter)
        ask = not unfit and not (options.dry_run and asked)
        lacks = adapter.missing(options.binary) if ask else None
        # What was asked for by name must be there; of `all`, only what can be.
        if lacks and asked and ALL not in options.systems.split(","):
            raise WrongUse(f"{adapter.name}: {lacks}")
        if unfit or lacks:
            left_out.append(f"  without {adapter.name}: {unfit or lacks}")
        else:
            chosen.append(adapter.name)
    if not sandbox.is_inside():
        for line in left_out:
            print(line, file=sys.stderr)
    if not chosen:
        raise WrongUse(f"{experiment.name} has no system left; see --systems")
    return replace(experiment, systems=tuple(chosen))


def run_outside(options, experiment):
    """Makes the run's folder, or goes on with one, runs inside, and hands the folder to whoever
    called sudo."""
    experiment_dir = options.results.resolve() / options.experiment
    run_dir = experiment_dir / options.run_id
    begin_or_go_on(experiment, run_dir)
    arguments = [
        "--experiment", options.experiment,
        "--binary", str(options.binary.resolve()),
        "--run-dir", str(run_dir),
        *(["--quick"] if options.quick else []),
        *(["--repeats", str(options.repeats)] if options.repeats else []),
        *(["--systems", ",".join(experiment.systems)] if hasattr(experiment, "systems") else []),
    ]  # fmt: skip
    try:
        with allowed(experiment.congestion_control):
            code = sandbox.run_inside(arguments)
    finally:
        hand_over([options.results.resolve(), experiment_dir], run_dir)
    # The last line, for whoever goes on with it.
    print(f"results: {run_dir}", flush=True)
    return code


def begin_or_go_on(experiment, run_dir):
    """Makes a run's folder; or raises if one that is there can't be gone on with."""
    if (run_dir / "experiment.json").exists():
        must_be_alike(experiment, run_dir)
        return
    # An earlier run may have been ended before it wrote anything.
    if run_dir.exists() and any(run_dir.iterdir()):
        raise WrongUse(f"{run_dir} exists and holds no run to go on with; choose another id")
    run_dir.mkdir(parents=True, exist_ok=True)


def must_be_alike(experiment, run_dir):
    """Raises if a run can't be gone on with as this experiment."""
    if not isinstance(experiment, Comparison):
        raise WrongUse(f"{run_dir} exists, and {experiment.name} can't go on; choose another id")
    different = resume.differences(experiment, run_dir)
    if different:
        raise WrongUse(
            f"{run_dir} was begun with other parameters ({', '.join(different)}); give the same "
            "ones (QUICK, SYSTEMS, no fewer REPEATS), or choose another id"
        )


@contextmanager
def allowed(congestion_control):
    """Lets emulated hosts choose this congestion control while the run lasts.

    A network namespace may only choose from a list that belongs to the machine, which may hold no
    more than the machine's own default. Of several runs at the same time the last one to end puts
    back what was there before the first: each holds a shared lock on a file that remembers it.
    """
    with open(ALLOWED_BEFORE, "a+", encoding="ascii") as before:
        with _alone():
            fcntl.flock(before, fcntl.LOCK_SH)
            now = ALLOWED.read_text(encoding="ascii").strip()
            if congestion_control not in now.split():
                before.seek(0)
                if not before.read():
                    before.write(now)
                    before.flush()
                ALLOWED.write_text(f"{now} {congestion_control}", encoding="ascii")
        try:
            yield
        finally:
            with _alone(), suppress(BlockingIOError):
                fcntl.flock(before, fcntl.LOCK_EX | fcntl.LOCK_NB)
                before.seek(0)
                if was := before.read():
                    ALLOWED.write_text(was, encoding="ascii")
                    before.truncate(0)


@contextmanager
def _alone():
    """For a moment no other run looks at the list or changes it."""
    with open(ALLOWED_BEFORE.with_suffix(".lock"), "a", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


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
    missing = SYSTEMS["loggos"].missing(binary)
    return missing or (shaping.what_is_missing() if experiment.is_shaped() else None)


def show(experiment):
    """What an experiment does, without running it."""
    print(f"{experiment.name}: {experiment.title}")
    if hasattr(experiment, "words"):
        print("\n".join(f"  {line}" for line in experiment.words()))
    else:
        show_cluster(experiment)


def show_cluster(experiment):
    """What an experiment of `experiments.py` does, or one that compares."""
    print(f"  {experiment.nodes} nodes, {experiment.clients} clients, {experiment.workload}")
    match experiment:
        case Comparison():
            show_cells(experiment)
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


def show_cells(experiment):
    """The cells of a comparison, and what is done in those of each system."""
    found = experiment.cells()
    print(f"  {len(found)} cells, {experiment.repeats} times in this order:")
    for cell in found:
        if cell.repeat == 1:
            changes = ", ".join(f"{key} {value}" for key, value in cell.changes.items())
            print(f"    {cell.system:18} {changes}".rstrip())
    plans = {}
    for name in experiment.systems:
        plans.setdefault(tuple(experiment.plan(SYSTEMS[name])), []).append(name)
    for lines, names in plans.items():
        print(f"  {', '.join(names)}:")
        for line in lines:
            print(f"    {line}")


if __name__ == "__main__":
    sys.exit(main())
