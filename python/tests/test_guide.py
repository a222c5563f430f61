"""The guide's example of an experiment is one, and does what the guide says."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What `run.py --dry-run` does with an experiment that is in the list.
SHOW = "\nimport run\nrun.show(FIVE)\n"


def test_the_example_is_shown_as_the_guide_shows_it():
    guide = (ROOT / "docs" / "laboratory.md").read_text()
    example = re.search(r"```python\n(.*?)```", guide, re.DOTALL)[1]
    shown = re.search(r"```text\n(five: .*?)```", guide, re.DOTALL)[1]
    done = subprocess.run(
        [sys.executable, "-c", example + SHOW],
        cwd=ROOT / "mininet", capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == shown
