"""The machine of a run, for `machine.json`: what a reader must know to judge its numbers."""

import os
import platform
import subprocess
import time
from pathlib import Path

from loggos.bench.context import Parameters


def describe(place: Path, repository: Path, parameters: Parameters, quick: bool) -> dict:
    """The machine, the disk that `place` is on, the commit, and how much is measured."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory_mib": int(_field("/proc/meminfo", "MemTotal").split()[0]) // 1024,
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        "disk": disk(Path("/proc/self/mounts").read_text(), place),
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "commit": commit(repository),
        "repeats": parameters.repeats,
        "duration_s": parameters.duration_s,
        "parts": list(parameters.parts),
        "quick": quick,
        "versions": {},
    }


def is_busy(described: dict) -> bool:
    """Whether others kept half a core or more busy when the run began."""
    return described["load_average"] > 0.5


def disk(mounts: str, place: Path) -> str:
    """What the file system of a place is, from the text of `/proc/self/mounts`."""
    inside = [fields for fields in map(str.split, mounts.splitlines())
              if place.resolve().is_relative_to(fields[1])]  # fmt: skip
    if not inside:
        return "unknown"
    # The later of two at the same place hides the other.
    device, _, kind, options, *_ = max(enumerate(inside), key=lambda it: (len(it[1][1]), it[0]))[1]
    return f"{device}, {kind} ({options})"


def is_in_memory(place: Path) -> bool:
    """Whether what is written there never reaches a disk."""
    kind = disk(Path("/proc/self/mounts").read_text(), place).split(", ")[-1]
    return kind.startswith(("tmpfs", "ramfs"))


def commit(repository: Path) -> str:
    """The commit of the repository, and whether files differ from it."""
    # Root may look at a repository that belongs to another user, and must not write its index.
    git = ["git", "--no-optional-locks", "-c", "safe.directory=*", "-C", str(repository)]
    name = _output([*git, "rev-parse", "--short=12", "HEAD"])
    changed = _output([*git, "status", "--porcelain", "--untracked-files=no"])
    return (name or "unknown") + (" with changes" if name and changed else "")


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
