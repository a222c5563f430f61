"""What every system can be asked to do."""

import json
import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from loggos.bench.processes import Children, Failed

READY_S = 60
# Above what a load takes by itself: connecting, writing the keys, ending.
LOAD_MORE_S = 90


@dataclass(frozen=True)
class Load:
    """What clients do to a system: so many connections with so many requests in flight each."""

    name: str
    operation: str = "put"
    clients: int = 64
    in_flight: int = 1
    keys: int = 10_000
    value_size: int = 256
    # Open loop at so many operations a second; None: closed loop.
    rate: float | None = None
    # Reads by quorums, at all nodes (Loggos only).
    quorum: bool = False

    @property
    def label(self) -> str:
        """In words."""
        what = {"put": "puts", "get": "reads"}[self.operation]
        many = f" x {self.in_flight}" if self.in_flight > 1 else ""
        return f"{what}, {self.clients}{many}" + (" by quorum" if self.quorum else "")

    def options(self, duration_s: float, warmup_s: float) -> list[object]:
        """What both load generators are told alike."""
        return [
            "--clients", self.clients,
            "--in-flight", self.in_flight,
            "--duration", f"{duration_s}s",
            "--warmup", f"{warmup_s}s",
            "--keys", self.keys,
            "--value-size", self.value_size,
        ]  # fmt: skip


@dataclass
class Place:
    """Where systems run, with which programs, and for how long they are loaded."""

    root: Path
    binary: Path
    rival_load: Path
    children: Children
    duration_s: float
    warmup_s: float


class System(ABC):
    """One cluster, from its start to its end: `with System(place) as system:`."""

    name: str
    label: str

    def __init__(self, place: Place):
        self.place = place
        self.dir = place.root / self.name
        self.processes: list[Popen] = []

    def __enter__(self):
        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir.mkdir(parents=True)
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    @abstractmethod
    def start(self) -> None:
        """Starts all nodes in `dir`, and waits until they serve."""

    @abstractmethod
    def version(self) -> str:
        """What it calls itself."""

    def load(self, load: Load) -> dict:
        """Loads the leader; returns the load generator's report."""
        duration_s, warmup_s = self.place.duration_s, self.place.warmup_s
        command = [
            self.place.rival_load, self.name, load.operation,
            "--nodes", self.leader(),
            *load.options(duration_s, warmup_s),
        ]  # fmt: skip
        out = self.place.children.run(command, duration_s + warmup_s + LOAD_MORE_S)
        return parse_report(out)

    @abstractmethod
    def leader(self) -> str:
        """The address where the leader serves clients."""

    def spawn(self, command: list, name: str) -> Popen:
        """Starts a node that logs to `name`.log."""
        process = self.place.children.start(command, self.dir / f"{name}.log")
        self.processes.append(process)
        return process

    def check_alive(self) -> None:
        """Raises if a node has ended."""
        for process in self.processes:
            if process.poll() is not None:
                raise Failed(f"a node of {self.label} ended with {process.returncode}{self.said()}")

    def said(self) -> str:
        """The last line of its newest log, if there is one."""
        logs = sorted(self.dir.glob("*.log"), key=lambda path: path.stat().st_mtime)
        lines = logs[-1].read_text(errors="replace").strip().splitlines() if logs else []
        return f": {lines[-1]}" if lines else ""

    def close(self) -> None:
        """Ends all nodes and removes their data."""
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            self.place.children.stop(process)
        self.processes.clear()
        shutil.rmtree(self.dir, ignore_errors=True)


def parse_report(out: str) -> dict:
    """The load generator's report; one with operations that failed is no measurement."""
    try:
        report = json.loads(out)
        classes = [report["reads"], report["writes"]]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise Failed(f"the load generator's report is none: {error!r}") from None
    bad = sum(each["refused"] + each["failed"] + each["unknown"] for each in classes)
    if bad:
        why = "; ".join(report.get("errors", {})) or "no reason given"
        raise Failed(f"{bad} operations failed: {why}")
    return report
