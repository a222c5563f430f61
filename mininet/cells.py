"""Plays a comparison cell by cell, and goes on where an earlier run stopped.

Each cell has a folder of its own below `cells/`, in which `cell.json` is written last: a folder
without it is of a cell that did not end well, and is played anew.
"""

import json
import shutil
import sys
import time
import traceback

import judge
from files import write_json
from judge import CheckFailed
from resume import FOLDER, MARKER
from systems.known import SYSTEMS

SETTLE_S = 20


class CellsFailed(Exception):
    """Some cells did not end well; the others did."""


def play(one_cell, lab):
    """All cells that have not ended well yet; one that fails does not keep the next from its turn.
    `one_cell` is called with the run, the cell, its system, not yet started, and the links."""
    cells = lab.experiment.cells()
    failures, violation = [], None
    for number, cell in enumerate(cells, 1):
        folder = lab.run_dir / FOLDER / cell.name
        if (folder / MARKER).exists():
            lab.verdicts += json.loads((folder / MARKER).read_text())["verdicts"]
            continue
        shutil.rmtree(folder, ignore_errors=True)
        lab.say(f"  {lab.elapsed_s():6.1f} s  {number} of {len(cells)}: {cell.name}")
        try:
            _play_one(one_cell, lab, cell, folder)
        except CheckFailed as failure:
            violation = violation or failure
            failures.append(_note(lab, cell, folder, failure))
        except Exception as failure:
            failures.append(_note(lab, cell, folder, failure))
    if violation:
        raise violation
    if failures:
        raise CellsFailed(
            f"{len(failures)} of {len(cells)} cells failed ({', '.join(failures)}); what failed is "
            "in failure.txt in their folders; the same run id plays them again"
        )


def _play_one(one_cell, lab, cell, folder):
    began, before = time.monotonic(), len(lab.verdicts)
    folder.mkdir(parents=True)
    adapter = SYSTEMS[cell.system]
    try:
        experiment = lab.experiment.of(cell)
        system, links = lab.deploy(experiment, folder, experiment.setup(), adapter)
        one_cell(lab, cell, system, links)
        write_json(folder / "status" / "end.json", system.settle(SETTLE_S))
        system.stop()
    finally:
        # The next cell's hosts have the same names. It also makes this one's files whole.
        lab.take_down()
        lab.systems.clear()
    histories = list((folder / "traces").glob("*.history"))
    if histories or lab.experiment.of(cell).node_traces:
        judge.files(lab.binary, [folder / "traces"], lab.verdicts)
        for path in histories:
            path.unlink()
    shutil.rmtree(folder / "hosts")
    marker = {
        **cell.as_json(),
        "seconds": round(time.monotonic() - began, 1),
        "ping": lab.environment["ping"],
        "commands": [command.as_json() for command in system.commands],
        "verdicts": lab.verdicts[before:],
    }
    # Whole or not at all: a run may be interrupted here, too.
    write_json(folder / "cell.new", marker)
    (folder / "cell.new").rename(folder / MARKER)


def _note(lab, cell, folder, failure):
    (folder / "failure.txt").write_text(traceback.format_exc())
    lab.progress.clear()
    print(f"  {cell.name} failed: {failure}", file=sys.stderr, flush=True)
    return cell.name
