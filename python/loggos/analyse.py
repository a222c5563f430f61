"""Everything that one run can tell: `python -m loggos.analyse results/failover/RUN_ID`.

Writes `summary.csv`, `summary.md` and `figures/` into the run's folder. Ends with 1 if the run
itself failed, if an acknowledged operation was lost or took effect twice, or if the histories are
not linearizable.
"""

import argparse
import shutil
import sys
from pathlib import Path

import matplotlib

from loggos import (
    ablation,
    calibration,
    cdf,
    cost,
    downtime,
    failover,
    faults,
    flap,
    loss,
    mix,
    partition,
    quorums,
    reads,
    reconfigure,
    recovery,
    runs,
    sizes,
    snapshot,
    steady,
    timeline,
    timeouts,
    wan,
)
from loggos.runs import Run

# What there is to say of each kind of experiment: from a run, and a folder for figures, the table
# and the parts of the page.
REPORTS = {
    "timeline": timeline.report,
    "steady": steady.report,
    "cdf": cdf.report,
    "sizes": sizes.report,
    "failover": failover.report,
    "cost": cost.report,
    "ablation": ablation.report,
    "downtime": downtime.report,
    "recovery": recovery.report,
    "mix": mix.report,
    "partition": partition.report,
    "quorums": quorums.report,
    "reads": reads.report,
    "reconfigure": reconfigure.report,
    "snapshot": snapshot.report,
    "calibration": calibration.report,
    "flap": flap.report,
    "loss": loss.report,
    "timeouts": timeouts.report,
    "wan": wan.report,
}


def conditions(run: Run) -> str:
    """The run's conditions in a few lines, so that nobody has to guess them from a figure."""
    experiment, machine = run.experiment, run.environment.get("machine", {})
    lines = [
        # Some have no cluster.
        *(of_cluster(experiment) if "workload" in experiment else []),
        f"- all hosts share one machine: {machine.get('cores', '?')} cores "
        f"({machine.get('cpu', 'unknown')}), kernel {machine.get('kernel', '?')}; "
        f"links by {run.environment.get('links', '?')}; "
        f"load average before the run: {machine.get('load_average', '?')}",
        f"- commit {run.environment.get('commit', '?')}, run {run.path.name}",
        *(
            f"- **{name}** ({about['version']}): {about['about']}"
            for name, about in of_systems(run).items()
        ),
    ]
    return "\n".join(lines)


def of_systems(run: Run) -> dict[str, dict]:
    """Version of each system of a comparison, and what its numbers include."""
    return {name: run.environment["systems"][name] for name in run.experiment.get("systems", [])}


def of_cluster(experiment: dict) -> list[str]:
    """What an experiment says of the cluster and its load, in a few lines."""
    load = "closed loop"
    if experiment.get("rate"):
        load = f"open loop, {experiment['rate']:,} operations/s"
    elif experiment.get("rates"):
        load = f"open loop, {len(experiment['rates'])} rates"
    clients = f"{experiment['nodes']} nodes, {experiment['clients']} clients"
    if experiment.get("sizes"):
        sizes = " and ".join(str(size) for size in experiment["sizes"])
        clients = f"{sizes} nodes, each with a client of its own"
        if experiment.get("systems"):
            clients = f"{sizes} nodes, {experiment['clients']} clients"
    system = f"log synced to disk: {'yes' if experiment['sync'] else 'no'}"
    timeout = f"{experiment['election_timeout_ms']} ms"
    if experiment.get("kind") == "downtime":
        sizes = " or ".join(str(size) for size in sorted({it[1] for it in experiment["kinds"]}))
        clients = f"{sizes} nodes, each with a client of its own"
        timeout = f"{', '.join(f'{it:,}' for it in experiment['timeouts_ms'])} ms"
    if experiment.get("systems"):
        # What each of them does is said apart; what each load is stands with the figures.
        load, system = "loads as below", f"{experiment.get('repeats', 1)} repetitions"
    return [
        f"- {clients}, {load}, "
        f"workload {experiment['workload']}, values of {experiment['value_size']} bytes",
        f"- election timeout {timeout}, {system}",
    ]


def verdict(run: Run) -> tuple[bool, str]:
    """Whether the run is sound, and a sentence that says so or says why not."""
    found = faults.check(run)
    problems = []
    if not run.outcome.get("ok", False):
        problems.append(run.outcome.get("error", "the run did not end"))
    words = {
        "lost": "acknowledged operations lost",
        "duplicated": "operations took effect twice",
        "stale": "reads went back in time",
        "unexpected": "values that nobody wrote",
    }
    problems += [f"{found[key]} {text}" for key, text in words.items() if found[key]]
    problems += unsound(run)
    if problems:
        return False, "**Failed:** " + "; ".join(problems) + "."
    if found["lost"] is None:
        return True, "The load generator made no check of what was lost or duplicated."
    return True, (
        f"Lost: {found['lost']}, duplicated: {found['duplicated']}; the client was left without a "
        f"definite answer to {found['unknown']} operations."
    )


def unsound(run: Run) -> list[str]:
    """What `loggos check` found to be wrong, or could not decide."""
    problems = []
    for one in run.verdicts:
        histories, nodes = one["histories"], one["nodes"]
        if histories["violated"]:
            problems.append(f"the operations on {histories['violated']} keys have no order")
        if histories["undecided"] or histories["cut_short"]:
            problems.append("whether the histories are linearizable was not decided")
        if nodes["problems"]:
            problems.append(f"{nodes['problems']} disagreements in the nodes' traces")
    return problems


def judged(run: Run) -> str:
    """What `loggos check` found, in a sentence, and for what is wrong the lines that show it."""
    if not run.verdicts:
        return "No history was recorded, so none was judged."

    def total(part: str, key: str) -> int:
        return sum(one[part][key] for one in run.verdicts)

    lines = [
        line for one in run.verdicts for each in one["histories"]["witnesses"] for line in each
    ]
    lines += [line for one in run.verdicts for line in one["nodes"]["examples"]]
    if lines:
        return "\n".join(["```text", *lines, "```"])
    if unsound(run):
        return "The histories were not decided."
    sentences = ["No history was recorded, so none was judged."]
    if total("histories", "operations"):
        sentences = [
            f"Linearizable: {total('histories', 'operations'):,} operations on "
            f"{total('histories', 'keys'):,} keys have an order, "
            f"{total('histories', 'unknown'):,} of them without a reply."
        ]
    if total("nodes", "files"):
        sentences.append(
            f"Agreed: {total('nodes', 'compared'):,} slots were applied with the same value and "
            f"result at two nodes or more; {total('nodes', 'ballots'):,} ballots led, in order."
        )
    return " ".join(sentences)


def analyse(run: Run) -> bool:
    """Writes tables and figures into the run's folder; returns whether the run is sound."""
    figures = run.path / "figures"
    sound, sentence = verdict(run)
    parts = [
        f"# {run.name}: {run.experiment.get('title', '')}".rstrip(": "),
        conditions(run),
    ]
    if "workload" in run.experiment or not sound:
        parts += [sentence, judged(run)]
    table, found = REPORTS[runs.kind(run.experiment)](run, figures)
    parts += found
    systems = run.experiment.get("systems")
    which = f" SYSTEMS={','.join(systems)}" if systems else ""
    parts.append(
        f"Made by `make mininet-experiment EXPERIMENT={run.name}{which}`; figures again by "
        f"`python -m loggos.analyse` on the run's folder."
    )
    table.to_csv(run.path / "summary.csv", index=False, float_format="%.6g")
    (run.path / "summary.md").write_text("\n\n".join(parts) + "\n")
    return sound


def publish(run: Run, target: Path) -> Path:
    """Copies the tables, figures and parameters of a run to the folder that a report reads."""
    target.mkdir(parents=True, exist_ok=True)
    names = ["summary.md", "experiment.json", "environment.json", "faults.jsonl", "check.json"]
    there = [run.path / name for name in names if (run.path / name).exists()]
    for path in [*there, *sorted(run.path.glob("*.csv"))]:
        shutil.copyfile(path, target / path.name)
    # Flat, because every folder below an experiment's is a run and stays out of version control.
    for figure in sorted((run.path / "figures").iterdir()):
        shutil.copyfile(figure, target / figure.name)
    summary = target / "summary.md"
    summary.write_text(summary.read_text().replace("(figures/", "("))
    return target


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loggos.analyse", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--publish", action="store_true", help="copy to the experiment's folder")
    parser.add_argument(
        "--report", type=Path, metavar="FOLDER", help="copy for a report of its own in this folder"
    )
    options = parser.parse_args(arguments)
    matplotlib.use("Agg")
    try:
        run = runs.load(options.run)
        sound = analyse(run)
    except (OSError, ValueError) as error:
        print(f"loggos.analyse: {error}", file=sys.stderr)
        return 1
    print((run.path / "summary.md").read_text())
    print(f"Tables and figures: {run.path}")
    if options.publish:
        target = publish(run, run.path.parent)
        print(f"Published: {target}; `make report` puts it into results/README.md")
    if options.report:
        publish(run, options.report / run.name)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
