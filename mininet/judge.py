"""Has `loggos check` judge what clients and nodes recorded.

Every run ends with it. A history that no order explains, or nodes that did not agree, fail the run;
so does one that could not be decided, because nobody knows then.
"""

import json
import subprocess

VIOLATED = 5
UNDECIDED = 6
TIMEOUT_S = 600


class CheckFailed(Exception):
    """An acknowledged operation was lost or took effect twice, or the histories have no order."""


def clusters(lab):
    """Judges the histories and traces of each cluster of a run, adds the verdicts to those that
    there are, and says what all of them were about."""
    for system in lab.systems:
        folder = system.run_dir / "traces"
        found = [*folder.glob("*.history"), *folder.glob("*.trace")] if folder.is_dir() else []
        if found:
            files(lab.binary, [folder], lab.verdicts)
    for line in summary(lab.verdicts):
        lab.say(f"  {line}")


def files(binary, paths, verdicts):
    """Judges these files or folders and adds the verdict; raises `CheckFailed` if it is bad."""
    done = subprocess.run(
        [str(binary), "check", "--json", *(str(path) for path in paths)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode not in (0, VIOLATED, UNDECIDED):
        raise RuntimeError(f"loggos check ended with {done.returncode}: {done.stderr.strip()}")
    verdict = json.loads(done.stdout)
    verdicts.append(verdict)
    if done.returncode == VIOLATED:
        raise CheckFailed("\n".join(["histories or traces are wrong:", *problems(verdict)]))
    if done.returncode == UNDECIDED:
        raise RuntimeError("loggos check could not decide whether the histories are linearizable")


def problems(verdict):
    """What is wrong, line by line."""
    lines = [line for witness in verdict["histories"]["witnesses"] for line in witness]
    return lines + verdict["nodes"]["examples"]


def summary(verdicts):
    """All verdicts together, which are good, in a few lines."""
    total = {
        part: {key: sum(one[part][key] for one in verdicts) for key in keys}
        for part, keys in (
            ("histories", ("operations", "keys", "unknown", "files")),
            ("nodes", ("files", "ballots", "compared")),
        )
    }
    clients, nodes = total["histories"], total["nodes"]
    if clients["files"]:
        yield (
            f"linearizable: {clients['operations']:,} operations on {clients['keys']:,} keys, "
            f"{clients['unknown']:,} without a reply"
        )
    if nodes["files"]:
        yield (
            f"agreed: {nodes['compared']:,} slots compared, {nodes['ballots']} ballots, "
            f"{nodes['files']} traces"
        )
