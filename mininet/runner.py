"""One run from an empty folder to a full one: build, start, load, break, collect, take down.

It measures nothing: what it writes are parameters, times, exit codes and what the processes wrote.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path

import judge
import sandbox
from faults import Schedule
from judge import CheckFailed
from links import Links
from sandbox import Interrupted
from systems.loggos import Loggos
from topology import Star

REPOSITORY = Path(__file__).resolve().parent.parent
# A load generator that is told to stop at a time may first wait for its last replies and check.
BENCH_GRACE_S = 60
AGREE_S = 20
CHECK_FAILED = 5


class Progress:
    """What happens, a line each; on a terminal also a line that counts."""

    def __init__(self):
        self.terminal = sys.stdout.isatty()
        self.open_line = False

    def clear(self):
        """Takes the counting line away."""
        if self.open_line:
            print("\r\033[K", end="", flush=True)
            self.open_line = False

    def say(self, text):
        """A line that stays."""
        self.clear()
        print(text[:79], flush=True)

    def event(self, elapsed_s, text):
        """Something that was done to the cluster."""
        mark = f"\033[33m{text}\033[0m" if self.terminal else text
        self.say(f"  {elapsed_s:6.1f} s  {mark}")

    def count(self, elapsed_s, total_s, following):
        """Where the load is and what comes next."""
        if not self.terminal:
            return
        width = 24
        full = int(width * min(elapsed_s / total_s, 1))
        bar = "=" * full + " " * (width - full)
        text = f"  {elapsed_s:6.1f} s  [{bar}] of {total_s:g} s{following}"
        print("\r\033[K" + text[:79], end="", flush=True)
        self.open_line = True


def run(experiment, binary, run_dir):
    """Runs an experiment into an existing folder; returns the exit code."""
    progress = Progress()
    progress.say(f"{experiment.name}: {experiment.title}")
    write_json(run_dir / "experiment.json", experiment.as_json())
    environment = describe_machine(binary, run_dir)
    error = None
    parts = []
    verdicts = []
    try:
        code = play(experiment, binary, run_dir, environment, parts, verdicts, progress)
    except Interrupted as signal:
        code, error = 128 + signal.number, f"interrupted by {signal}"
    except CheckFailed as failure:
        code, error = CHECK_FAILED, str(failure)
    except Exception as failure:
        code, error = 1, str(failure)
        (run_dir / "failure.txt").write_text(traceback.format_exc())
    finally:
        take_down(parts)
    if code in (0, CHECK_FAILED):
        # Now that all have ended, their files are whole.
        try:
            judge.whole_run(binary, run_dir, verdicts, progress.say)
        except CheckFailed as failure:
            code, error = CHECK_FAILED, error or str(failure)
        except Exception as failure:
            code, error = code or 1, error or str(failure)
    write_json(run_dir / "check.json", verdicts)
    environment["commands"] = [command.as_json() for command in environment.get("commands", [])]
    write_json(run_dir / "environment.json", environment)
    write_json(run_dir / "outcome.json", {"ok": error is None, "error": error})
    if error is None:
        # Logs and traces are elsewhere; what is left are binaries and preallocated segments.
        shutil.rmtree(run_dir / "hosts")
    else:
        progress.clear()
        print(f"{experiment.name} failed: {error}", file=sys.stderr)
        print(f"logs and data of the nodes: {run_dir}", file=sys.stderr)
    return code


def play(experiment, binary, run_dir, environment, parts, verdicts, progress):
    """The run itself. Adds to `parts` whatever must be taken down, as soon as there is any."""
    started = time.monotonic()
    star = Star(experiment.nodes, experiment.client_hosts, experiment.congestion_control)
    parts.append(star.stop)
    star.start()
    links = Links(star)
    links.shape(experiment.delay_ms, experiment.jitter_ms, experiment.loss_percent)
    environment["links"] = links.describe()
    environment["ping"] = star.ping()
    system = Loggos(experiment, star, binary, run_dir)
    parts.append(system.kill_all)
    # The list grows while the run goes on, and holds the exit codes when it is written down.
    environment["commands"] = system.commands
    system.deploy()
    for node in system.nodes:
        system.start(node)
    system.wait_ready()
    progress.say(f"  {experiment.nodes} nodes are up, n{system.leader()} leads; {links.backend}")
    load(experiment, system, links, run_dir, verdicts, progress)
    write_json(run_dir / "status" / "end.json", system.wait_equal(AGREE_S))
    system.stop()
    progress.say(f"  all nodes agree and ended cleanly, {time.monotonic() - started:.0f} s in all")
    return 0


def take_down(parts):
    """Ends processes, then the network; one that fails must not keep the next from its turn."""
    for part in reversed(parts):
        try:
            part()
        except Exception as error:
            print(f"  cleaning up: {error}", file=sys.stderr)


def load(experiment, system, links, run_dir, verdicts, progress):
    """Puts the load on the cluster, and carries out the schedule meanwhile."""
    if not experiment.rates:
        schedule = Schedule(experiment.schedule, system, links, run_dir / "faults.jsonl")
        one_load(experiment, system, progress, "bench", experiment.rate, experiment.seed, schedule)
        return
    # Repeats outermost: should the machine grow slower or faster meanwhile, all rates feel it.
    for repeat in range(1, experiment.repeats + 1):
        for rate in experiment.rates:
            nothing = Schedule((), system, links, run_dir / "faults.jsonl")
            name = f"bench-{rate:06d}-{repeat}"
            progress.say(f"  repeat {repeat} of {experiment.repeats}: {rate:,} operations/s")
            seed = experiment.seed + 1000 * repeat
            labels = one_load(experiment, system, progress, name, rate, seed, nothing)
            if experiment.histories:
                # One by one, and then away with them: together they would be very large.
                paths = [system.history(label) for label in labels]
                judge.files(system.binary, paths, verdicts)
                for path in paths:
                    path.unlink()


def one_load(experiment, system, progress, name, rate, seed, schedule):
    """One load from its start to the load generators' exit; returns their labels."""
    total_s = experiment.warmup_s + experiment.duration_s
    benches = system.bench(rate, seed, name, trace=not experiment.rates)
    begin = time.monotonic()
    while True:
        elapsed = time.monotonic() - begin
        for label in schedule.run_due(elapsed):
            progress.event(elapsed, label)
        system.check_alive()
        codes = {label: process.poll() for label, process in benches.items()}
        for label, code in codes.items():
            if code == CHECK_FAILED:
                raise CheckFailed(f"the check failed: {system.log_tail(label)}")
            if code not in (None, 0):
                raise RuntimeError(
                    f"the load generator ended with {code}: {system.log_tail(label)}"
                )
        if all(code == 0 for code in codes.values()):
            break
        if elapsed > total_s + BENCH_GRACE_S:
            raise RuntimeError(f"the load generator did not end in time: {system.log_tail(name)}")
        following = ""
        if schedule.pending:
            following = f", next at {schedule.pending[0].seconds:g} s"
        progress.count(elapsed, total_s, following)
        # Sleeps up to the next event, so that it is not late by a whole turn of this loop.
        wait = 0.2
        if schedule.pending:
            wait = min(wait, schedule.pending[0].seconds - (time.monotonic() - begin))
        time.sleep(max(wait, 0))
    if schedule.pending:
        raise RuntimeError(f"the load ended before {len(schedule.pending)} events of the schedule")
    return list(benches)


def describe_machine(binary, run_dir):
    """What a reader must know of the machine to judge the numbers."""
    cpu = memory = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal"):
            memory = int(line.split()[1]) // 1024
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": {
            "cpu": cpu,
            "cores": os.cpu_count(),
            "memory_mib": memory,
            "load_average": round(os.getloadavg()[0], 2),
            "kernel": platform.release(),
            "system": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
            "file_system": output(["stat", "-f", "-c", "%T", str(run_dir)]),
        },
        "isolation": sandbox.isolation(),
        "python": platform.python_version(),
        "mininet": output(["mn", "--version"]),
        "nft": output(["nft", "--version"]),
        "loggos": output([str(binary), "--version"]),
        "commit": commit(),
    }


def commit():
    """The commit of the repository, and whether files differ from it."""
    # Root may look at a repository that belongs to another user, and must not write its index.
    git = ["git", "--no-optional-locks", "-c", "safe.directory=*", "-C", str(REPOSITORY)]
    name = output([*git, "rev-parse", "--short=12", "HEAD"])
    changed = output([*git, "status", "--porcelain", "--untracked-files=no"])
    return name + (" with changes" if changed and name != "unknown" else "")


def output(command):
    """What a command prints, or `unknown`."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except OSError:
        return "unknown"
    if done.returncode != 0:
        return "unknown"
    return done.stdout.strip() or done.stderr.strip()


def write_json(path, value):
    """Writes a value for people and programs."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
