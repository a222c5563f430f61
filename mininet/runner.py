"""One run from an empty folder to a full one: build, start, load, break, collect, take down.

It measures nothing: what it writes are parameters, times, exit codes and what the processes wrote.
"""

import os
import platform
import shutil
import sys
import time
import traceback
from functools import partial
from pathlib import Path

import ablation
import calibration
import cells
import compare
import downtime
import flap
import judge
import loads
import loss
import mix
import partition
import quorums
import reads
import reconfigure
import recovery
import resume
import sandbox
import snapshot
import timeouts
import wan
from ablation_plan import Ablation
from comparisons import Cdf, Comparison, Cost, Failover, Sizes, Steady
from downtime_plan import Downtime
from experiments import Partition, Quorums, Reads, Reconfigure, Snapshot, Timeline
from files import write_json
from judge import CheckFailed
from lab import CHECK_FAILED, Lab
from link_experiments import Calibration, Flap, Loss, Timeouts, Wan
from mix_plan import Mix
from recovery_plan import Recovery
from sandbox import Interrupted
from systems.base import output
from systems.known import SYSTEMS

REPOSITORY = Path(__file__).resolve().parent.parent
PLAYS = {
    Timeline: loads.play_timeline,
    Steady: partial(cells.play, compare.steady),
    Cdf: partial(cells.play, compare.cdf),
    Sizes: partial(cells.play, compare.sizes),
    Failover: partial(cells.play, compare.failover),
    Cost: partial(cells.play, compare.cost),
    Ablation: partial(cells.play, ablation.one_cell),
    Downtime: partial(cells.play, downtime.one_cell),
    Recovery: partial(cells.play, recovery.one_cell),
    Mix: partial(cells.play, mix.one_cell),
    Partition: partition.play,
    Quorums: quorums.play,
    Reads: reads.play,
    Reconfigure: reconfigure.play,
    Snapshot: snapshot.play,
    Calibration: calibration.play,
    Flap: flap.play,
    Loss: loss.play,
    Timeouts: timeouts.play,
    Wan: wan.play,
}


def run(experiment, binary, run_dir):
    """Runs an experiment into an existing folder; returns the exit code."""
    lab = Lab(experiment, binary, run_dir)
    lab.say(f"{experiment.name}: {experiment.title}")
    write_json(run_dir / "experiment.json", experiment.as_json())
    earlier = resume.earlier_environments(run_dir / "environment.json")
    lab.environment |= describe_machine(binary, run_dir)
    lab.environment["systems"] = describe_systems(experiment, binary)
    # At once, too: a run that is interrupted for good has said where it was.
    write_json(run_dir / "environment.json", {**lab.environment, "earlier": earlier})
    code, error = 0, None
    try:
        PLAYS[type(experiment)](lab)
    except Interrupted as signal:
        code, error = 128 + signal.number, f"interrupted by {signal}"
    except CheckFailed as failure:
        code, error = CHECK_FAILED, str(failure)
    except Exception as failure:
        code, error = 1, str(failure)
        (run_dir / "failure.txt").write_text(traceback.format_exc())
    finally:
        lab.take_down()
    if code in (0, CHECK_FAILED):
        # Now that all have ended, their files are whole.
        try:
            judge.clusters(lab)
        except CheckFailed as failure:
            code, error = CHECK_FAILED, error or str(failure)
        except Exception as failure:
            code, error = code or 1, error or str(failure)
    write_json(run_dir / "check.json", lab.verdicts)
    commands = [command.as_json() for system in lab.systems for command in system.commands]
    environment = resume.with_earlier({**lab.environment, "commands": commands}, earlier)
    write_json(run_dir / "environment.json", environment)
    write_json(run_dir / "outcome.json", {"ok": error is None, "error": error})
    if error is None:
        # Logs and traces are elsewhere; what is left are binaries and preallocated segments.
        for system in lab.systems:
            shutil.rmtree(system.run_dir / "hosts", ignore_errors=True)
    else:
        lab.progress.clear()
        print(f"{experiment.name} failed: {error}", file=sys.stderr)
        print(f"logs and data of the nodes: {run_dir}", file=sys.stderr)
    return code


def describe_systems(experiment, binary):
    """Versions of the systems under test, and what their numbers include."""
    names = experiment.systems if isinstance(experiment, Comparison) else ("loggos",)
    adapters = [SYSTEMS[name] for name in names]
    return {it.name: {"version": it.version(binary), "about": it.about} for it in adapters}


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
        "commit": commit(),
    }


def commit():
    """The commit of the repository, and whether files differ from it."""
    # Root may look at a repository that belongs to another user, and must not write its index.
    git = ["git", "--no-optional-locks", "-c", "safe.directory=*", "-C", str(REPOSITORY)]
    name = output([*git, "rev-parse", "--short=12", "HEAD"])
    changed = output([*git, "status", "--porcelain", "--untracked-files=no"])
    return name + (" with changes" if changed and name != "unknown" else "")
