"""A run's folder: what an experiment left behind, loaded but not interpreted.

experiment.json   every parameter of the experiment
environment.json  machine, kernel, versions, commit, commands with their exit codes
outcome.json      whether the run succeeded, and what failed if not
faults.jsonl      a line for each event of the schedule, with the time it was measured to happen
check.json        verdicts of `loggos check` on histories and traces
bench*.json       the load generator's own report
traces/*.trace    what nodes and clients recorded
status/*.json     what the nodes said of themselves before and after
logs/             standard error of every process

A run of several clusters has the last four in a folder for each, named `3-nodes` or the like; a
comparison has such a folder for each of its `cells/`, with what was done there in `cell.json`.
"""

import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from loggos import trace


@dataclass(frozen=True)
class Run:
    """One run. The big parts are read when they are first asked for."""

    path: Path
    experiment: dict
    environment: dict = field(default_factory=dict)
    outcome: dict = field(default_factory=dict)

    @cached_property
    def events(self) -> pd.DataFrame:
        """All trace records, ordered by time: 42 bytes of memory each."""
        return trace.read_all(self._traces)

    def events_of(self, *kinds: trace.Kind) -> pd.DataFrame:
        """The trace records of these kinds, ordered by time; others take no memory."""
        if "events" in self.__dict__:
            return trace.of_kind(self.events, *kinds)
        return trace.read_all(self._traces, *kinds)

    @property
    def _traces(self) -> list[Path]:
        return list((self.path / "traces").glob("*.trace"))

    @cached_property
    def operations(self) -> pd.DataFrame:
        """The clients' operations."""
        return trace.operations(self.events_of(trace.Kind.CLIENT_OPERATION))

    @cached_property
    def schedule(self) -> pd.DataFrame:
        """The lines of `faults.jsonl`, ordered by time; empty if there is no such file."""
        path = self.path / "faults.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        columns = ["time_ns", "done_ns", "number", "action", "label", "planned_s", "nodes"]
        frame = pd.DataFrame([json.loads(line) for line in lines if line.strip()])
        frame = frame.reindex(columns=columns)
        return frame.sort_values("time_ns", kind="stable", ignore_index=True)

    @cached_property
    def benches(self) -> list[dict]:
        """The load generator's reports, each with the name of its file as `file`."""
        # A run of several clusters has a folder for each.
        places = ("bench*.json", "*-nodes*/bench*.json", "cells/*/bench*.json")
        paths = sorted(path for place in places for path in self.path.glob(place))
        return [{"file": path.stem, **json.loads(path.read_text())} for path in paths]

    @cached_property
    def verdicts(self) -> list[dict]:
        """What `loggos check` found; empty where nothing was judged."""
        path = self.path / "check.json"
        return json.loads(path.read_text()) if path.exists() else []

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.experiment["name"]

    @property
    def nodes(self) -> list[int]:
        """The ids of the nodes."""
        return list(range(1, self.experiment["nodes"] + 1))

    @cached_property
    def load_ns(self) -> tuple[int, int]:
        """When the load began and ended: the first intended start and the last one."""
        starts = self.operations["start_ns"]
        if len(starts) == 0:
            raise ValueError(f"{self.path}: no client recorded an operation in traces/")
        return int(starts.min()), int(starts.max())


def load(path: str | Path) -> Run:
    """Loads a run's folder; says what is missing if it is none."""
    path = Path(path)
    if not (path / "experiment.json").exists():
        raise FileNotFoundError(f"{path}: not a run (it has no experiment.json)")

    def read(name: str) -> dict:
        return json.loads((path / name).read_text()) if (path / name).exists() else {}

    return Run(path, read("experiment.json"), read("environment.json"), read("outcome.json"))


def newest(results: str | Path, experiment: str = "timeline") -> Path | None:
    """The newest run of an experiment; run ids begin with the date, so names sort by age."""
    paths = sorted(Path(results).glob(f"{experiment}/*/experiment.json"))
    return paths[-1].parent if paths else None


def chosen(root: str | Path, experiment: str, needs: str, column: str = "") -> Path:
    """The run that a notebook shows, of this kind of experiment: the one that the environment
    variable LOGGOS_RUN names, if it is of that kind; else the newest below `results/` of the
    repository `root`, else what is published there, else what comes with the tests.

    It must have what the notebook needs: a file or folder, and in a table a column.
    """
    root = Path(root)
    data = root / "python" / "tests" / "data"
    candidates = [newest(root / "results", experiment), root / "results" / experiment]
    candidates += [data / experiment, data / "results" / experiment]
    named = os.environ.get("LOGGOS_RUN")
    if named and kind(load(named).experiment) == experiment:
        if not _has(Path(named), needs, column):
            raise ValueError(f"{named}: has no {needs} of its present form; analyse it anew")
        candidates = [Path(named)]
    for path in candidates:
        if path and _has(path, needs, column):
            return path
    raise FileNotFoundError(
        f"no run of {experiment} has {needs}: sudo make mininet-experiment EXPERIMENT={experiment}"
    )


def kind(experiment: dict) -> str:
    """The kind of an experiment, from its parameters."""
    # The oldest runs are from before there were kinds.
    return experiment.get("kind", "timeline")


def _has(path: Path, needs: str, column: str) -> bool:
    if not (path / needs).exists():
        return False
    return not column or column in pd.read_csv(path / needs, nrows=0)
