"""What all parts of a run share: its parameters, its place, and how it tells of its progress."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loggos.bench.measures import Measures
from loggos.bench.processes import Children, Failed
from loggos.bench.systems import Place

BOLD, RED, GREEN, PLAIN = "\033[1m", "\033[31m", "\033[32m", "\033[0m"


class Console:
    """Lines of progress on standard output; colour only if that is a terminal."""

    def __init__(self):
        self.colored = sys.stdout.isatty()
        self._begun = time.monotonic()

    def paint(self, text: str, color: str) -> str:
        """The text in a colour, where there are colours."""
        return f"{color}{text}{PLAIN}" if self.colored else text

    def heading(self, text: str) -> None:
        """The begin of something longer."""
        seconds = int(time.monotonic() - self._begun)
        line = f"{seconds // 60:>3}:{seconds % 60:02} {text}"
        print(self.paint(line[:80], BOLD), flush=True)

    def line(self, text: str) -> None:
        """One thing that was done."""
        print(f"       {text}"[:80], flush=True)

    def failure(self, text: str) -> None:
        """Something that went wrong; told whole."""
        print(self.paint(f"failed {text}", RED), flush=True)


@dataclass(frozen=True)
class Parameters:
    """How much is measured. `quick` is for trying out: the numbers mean little."""

    repeats: int
    parts: tuple[str, ...]
    peers: tuple[str, ...]
    duration_s: float
    warmup_s: float
    # Before the first measured load of a fresh cluster: compilers at run time, caches, files.
    heat_s: float
    trials: int
    idle_s: float
    log_bytes: int
    missed_bytes: int
    stream_bytes: int

    @staticmethod
    def usual(repeats: int, parts: tuple[str, ...], peers: tuple[str, ...]) -> "Parameters":
        """For numbers that shall mean something."""
        return Parameters(repeats, parts, peers, 4, 1, 3, 30, 10, 10**9, 300 * 10**6, 512 << 20)

    @staticmethod
    def quick(repeats: int, parts: tuple[str, ...], peers: tuple[str, ...]) -> "Parameters":
        """For two minutes."""
        return Parameters(
            repeats, parts, peers, 0.8, 0.2, 0.5, 3, 3, 150 * 10**6, 60 * 10**6, 128 << 20
        )


@dataclass
class Context:
    """One run."""

    parameters: Parameters
    place: Place
    repository: Path
    measures: Measures
    console: Console
    children: Children
    # By system, for those that have run.
    versions: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def attempt(self, part: str, what: str) -> Iterator[None]:
        """`with context.attempt(...)`: what fails in it is told and noted, and the run goes on."""
        try:
            yield
        except (Failed, OSError, ValueError, KeyError) as error:
            why = f"{what}: {error}" if isinstance(error, Failed) else f"{what}: {error!r}"
            self.measures.fail(part, why)
            self.console.failure(f"{part}, {why}")
