"""What a comparison that is gone on with must know of its folder; needs no Mininet."""

import json

# Below it, each cell has a folder; the marker is written when the cell has ended well.
FOLDER = "cells"
MARKER = "cell.json"


def differences(experiment, run_dir):
    """The parameters in which a run's folder differs from an experiment."""
    there = json.loads((run_dir / "experiment.json").read_text())
    here = json.loads(json.dumps(experiment.as_json()))
    return sorted(key for key in here | there if here.get(key) != there.get(key))


def systems_of(run_dir):
    """The systems that a run's folder was begun with."""
    return tuple(json.loads((run_dir / "experiment.json").read_text())["systems"])
