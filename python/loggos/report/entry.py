"""What the report knows of an experiment, and what was published of it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from loggos import runs
from loggos.runs import Run


@dataclass(frozen=True)
class Published:
    """What was published of an experiment: tables, figures and parameters, no traces."""

    run: Run

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.run.path

    def has(self, name: str) -> bool:
        """Whether it has a table of this name."""
        return (self.path / f"{name}.csv").exists()

    def csv(self, name: str = "summary") -> pd.DataFrame:
        """One of its tables."""
        return pd.read_csv(self.path / f"{name}.csv")


def load(results: Path, name: str) -> Published | None:
    """What was published of an experiment, None if nothing was."""
    folder = results / name
    if (folder / "experiment.json").exists():
        return Published(runs.load(folder))
    # `make bench` is no experiment of the laboratory: it has a machine, and no hosts.
    if (folder / "machine.json").exists():
        machine = json.loads((folder / "machine.json").read_text())
        return Published(Run(folder, {"name": name, **machine}, {"machine": machine}))
    return None


def whole(published: Published) -> pd.DataFrame:
    """The table as it is."""
    return published.csv()


@dataclass(frozen=True)
class Entry:
    """One experiment in the report."""

    name: str
    title: str
    # What it shows, in a few sentences.
    shows: str
    # What a reader must know before comparing: what the numbers include, and what is not fair.
    unfair: str
    # What stands beside the middle of the repeats.
    interval: str
    # The short table, and the columns of the CSV that it and the figures cannot do without: results
    # of an earlier form of the experiment do not have them.
    table: Callable[[Published], pd.DataFrame] = whole
    source: str = "summary"
    needs: tuple[str, ...] = ()
    # Figures in their order, with words for those who do not see them; all there are, if none is
    # named.
    figures: Mapping[str, str] = field(default_factory=dict)
    # Those that can be drawn from the tables alone, and of which tables besides `source`: what was
    # published before there were these stays as it is.
    draw: Mapping[str, Callable[[Published], Figure]] = field(default_factory=dict)
    tables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    command: str = ""
    # How a run of it is made the reference.
    publish: str = "python -m loggos.analyse RUN --publish"

    @property
    def again(self) -> str:
        """The command that makes it again."""
        return self.command or f"sudo make mininet-experiment EXPERIMENT={self.name}"

    def drawn(self, published: Published) -> dict[str, Callable[[Published], Figure]]:
        """Of the figures that can be drawn from tables those whose tables were published."""
        return {
            figure: function
            for figure, function in self.draw.items()
            if all(published.has(name) for name in self.tables.get(figure, ()))
        }

    def is_of_another_form(self, published: Published) -> bool:
        """Whether the results are of an earlier form of the experiment."""
        return bool(set(self.needs) - set(published.csv(self.source).columns))
