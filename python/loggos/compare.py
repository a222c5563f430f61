"""Two runs of one experiment side by side: `python -m loggos.compare RUN RUN`.

What is compared are their `summary.csv`, row by row, so both must be analysed. Whether two means
differ is told by their 95 % intervals: apart, or not; without intervals nothing is claimed.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from loggos import runs
from loggos.runs import Run
from loggos.tables import markdown

# What names a row, by kind of experiment.
KEYS = {
    "timeline": ["fault"],
    "steady": ["system", "load"],
    "cdf": ["load", "system"],
    "sizes": ["system", "nodes"],
    "failover": ["event", "system"],
    "cost": ["load", "system"],
    "partition": ["scenario", "nodes"],
    "quorums": ["nodes", "q1", "q2", "slower_ms"],
    "reads": ["way", "offered"],
    "reconfigure": ["step"],
    "snapshot": ["when"],
    "flap": ["link", "period_s"],
    "loss": ["delay_ms", "jitter_ms", "loss_percent", "reorder_percent"],
    "timeouts": ["round_trip_ms", "factor", "timeout_ms"],
    "wan": ["leader", "operation", "region"],
}
ENDS = ("_half", "_ci95", "_low", "_high")
# Counts of what was measured, and what was asked for: no measures.
NO_MEASURES = {"n", "repeats", "offered", "at_s", "window_s", "seconds", "operations"}


def of_runs(first: Run, second: Run) -> pd.DataFrame:
    """The rows that both runs have; see `tables`."""
    kinds = [runs.kind(run.experiment) for run in (first, second)]
    if kinds[0] != kinds[1]:
        raise ValueError(f"{first.path} is of {kinds[0]}, {second.path} of {kinds[1]}")
    if kinds[0] not in KEYS:
        raise ValueError(f"runs of {kinds[0]} have no rows to compare")
    found = []
    for run in (first, second):
        path = run.path / "summary.csv"
        if not path.exists():
            raise FileNotFoundError(
                f"{path} does not exist: PYTHONPATH=python .venv/bin/python -m loggos.analyse "
                f"{run.path}"
            )
        found.append(pd.read_csv(path))
    return tables(*found, KEYS[kinds[0]])


def tables(first: pd.DataFrame, second: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """A row for each measure of each row that both tables have: the keys, `measure`, `first`,
    `second`, `ratio` (second to first), and `apart`: whether their intervals are, in words."""
    both = first.merge(second, on=keys, suffixes=("", "@2"))
    if both.empty:
        raise ValueError(f"the tables have no {', '.join(keys)} in common")
    rows = []
    for name in first.columns:
        numeric = pd.api.types.is_numeric_dtype(first[name])
        is_flag = pd.api.types.is_bool_dtype(first[name])
        if name in keys or name in NO_MEASURES or name.endswith(ENDS) or not numeric or is_flag:
            continue
        if f"{name}@2" not in both:
            continue
        for _, row in both.iterrows():
            one, two = row[name], row[f"{name}@2"]
            ratio = two / one if one else np.nan
            about = {key: row[key] for key in keys}
            told = _apart(_interval(row, name, ""), _interval(row, name, "@2"))
            rows.append(
                {**about, "measure": name, "first": one, "second": two, "ratio": ratio,
                 "apart": told}
            )  # fmt: skip
    return pd.DataFrame(rows)


def _interval(row: pd.Series, name: str, which: str) -> tuple[float, float]:
    for end in ("_half", "_ci95"):
        if f"{name}{end}{which}" in row:
            half = row[f"{name}{end}{which}"]
            return row[f"{name}{which}"] - half, row[f"{name}{which}"] + half
    return row.get(f"{name}_low{which}", np.nan), row.get(f"{name}_high{which}", np.nan)


def _apart(one: tuple[float, float], two: tuple[float, float]) -> str:
    if np.isnan([*one, *two]).any():
        return "unknown"
    return "no" if one[0] <= two[1] and two[0] <= one[1] else "yes"


def parameters(first: Run, second: Run) -> pd.DataFrame:
    """In which parameters, and in what of their machines, two runs differ."""
    rows = []
    for one, two in (
        (first.experiment, second.experiment),
        (_about(first.environment), _about(second.environment)),
    ):
        for name in sorted(one | two):
            if one.get(name) != two.get(name):
                rows.append({"what": name, "first": one.get(name), "second": two.get(name)})
    return pd.DataFrame(rows, columns=["what", "first", "second"]).astype(str)


def _about(environment: dict) -> dict:
    names = ("commit", "date", "links", "loggos", "systems")
    chosen = {name: environment[name] for name in names if name in environment}
    return chosen | environment.get("machine", {})


def pair(root: Path) -> tuple[Path, Path]:
    """The two runs that the notebook shows: those that the environment variables LOGGOS_RUN and
    LOGGOS_OTHER name, or without the latter two short ones that come with the tests."""
    first, second = os.environ.get("LOGGOS_RUN"), os.environ.get("LOGGOS_OTHER")
    if first and second:
        return Path(first), Path(second)
    if second:
        raise ValueError("LOGGOS_OTHER names a run, and LOGGOS_RUN none to compare it with")
    data = Path(root) / "python" / "tests" / "data"
    return data / "results" / "steady", data / "later" / "steady"


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loggos.compare", description=__doc__)
    parser.add_argument("runs", type=Path, nargs=2, metavar="RUN", help="folder of a run")
    options = parser.parse_args(arguments)
    try:
        first, second = (runs.load(path) for path in options.runs)
        table = of_runs(first, second)
    except (OSError, ValueError) as error:
        print(f"loggos.compare: {error}", file=sys.stderr)
        return 1
    differences = parameters(first, second)
    print(markdown(differences) if len(differences) else "The parameters are the same.")
    print()
    print(markdown(table, 2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
