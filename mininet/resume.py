"""What a run that is gone on with must know of its folder; needs no Mininet."""

import json

# Below it, each cell has a folder; the marker is written when the cell has ended well.
FOLDER = "cells"
MARKER = "cell.json"


def differences(experiment, run_dir):
    """The parameters in which a run's folder differs from an experiment. Repetitions may be added,
    and those that have not begun be left out."""
    there = json.loads((run_dir / "experiment.json").read_text())
    here = json.loads(json.dumps(experiment.as_json()))
    if begun(run_dir) <= experiment.repeats:
        there["repeats"] = experiment.repeats
    return sorted(key for key in here | there if here.get(key) != there.get(key))


def begun(run_dir):
    """The last repetition of which a cell has ended well; 0 if none has."""
    markers = run_dir.glob(f"{FOLDER}/*/{MARKER}")
    return max((json.loads(path.read_text())["repeat"] for path in markers), default=0)


def systems_of(run_dir):
    """The systems that a run's folder was begun with."""
    return tuple(json.loads((run_dir / "experiment.json").read_text())["systems"])


def earlier_environments(path):
    """Where a run was that is gone on with: each stretch of it in which something was played."""
    if not path.exists():
        return []
    last = json.loads(path.read_text())
    return [it for it in (*last.pop("earlier", []), last) if _played(it)]


def with_earlier(now, earlier):
    """Where a run was at last, with the stretches before; where nothing was left to play, those."""
    if earlier and not _played(now):
        now, earlier = earlier[-1], earlier[:-1]
    return {**now, "earlier": earlier}


def _played(environment):
    """How links were is only known where a network was made."""
    return "links" in environment
