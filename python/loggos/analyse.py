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
import pandas as pd

from loggos import faults, plots, runs, stages, stats
from loggos.runs import Run

# A system keeps up with a load if it achieves this share of what was offered.
KEEPS_UP = 0.95


def steady_points(run: Run) -> tuple[pd.DataFrame, pd.Series | None]:
    """A row for each offered rate: median and range of its repeats; and the knee.

    The median, because one repeat that the machine disturbed would move a mean of few by itself.
    `achieved_half` is half the 95 % t interval of the mean, for who wants to test a difference.
    The knee is the highest achieved throughput at which the system still keeps up with the load;
    there is none to see if it keeps up with the highest load.
    """
    rows = pd.DataFrame([_bench_row(bench) for bench in run.benches])
    # Generators on several hosts share one load: they add up, and the slowest one speaks for all.
    how = {"offered": "sum", "achieved": "sum", "p50_ms": "max", "p99_ms": "max"}
    rows = rows.groupby("load").agg(how)
    points = []
    for offered, repeats in rows.groupby("offered"):
        point = {"offered": offered, "repeats": len(repeats)}
        for name in ("achieved", "p50_ms", "p99_ms"):
            point[name] = repeats[name].median()
            point[f"{name}_low"] = repeats[name].min()
            point[f"{name}_high"] = repeats[name].max()
        point["achieved_half"] = stats.t_interval(repeats["achieved"])["half"]
        points.append(point)
    frame = pd.DataFrame(points)
    kept = frame[frame["achieved"] >= KEEPS_UP * frame["offered"]]
    saturated = len(kept) > 0 and kept["offered"].max() < frame["offered"].max()
    knee = kept.loc[kept["achieved"].idxmax()] if saturated else None
    return frame, knee


def _bench_row(bench: dict) -> dict:
    """One report of the load generator as the columns that `steady_points` needs."""
    # What writes take is what the log costs; a load of reads alone has only these.
    latency = bench["writes" if bench["writes"]["ok"] else "reads"]["latency_us"]
    return {
        "load": bench["file"].rpartition("-")[0],
        "offered": bench["parameters"]["rate"],
        "achieved": bench["throughput"],
        "p50_ms": latency["p50"] / 1e3,
        "p99_ms": latency["p99"] / 1e3,
    }


def markdown(frame: pd.DataFrame, digits: int = 1) -> str:
    """The frame as a Markdown table: numbers to the right, what is not there as a dash."""

    def show(value: object) -> str:
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, float):
            return "–" if pd.isna(value) else f"{value:,.{digits}f}"
        return f"{value:,}" if isinstance(value, int) else str(value)

    numeric = [pd.api.types.is_numeric_dtype(frame[name]) for name in frame.columns]
    lines = [
        "| " + " | ".join(str(name) for name in frame.columns) + " |",
        "| " + " | ".join("---:" if number else ":---" for number in numeric) + " |",
    ]
    for row in frame.astype(object).itertuples(index=False):
        lines.append("| " + " | ".join(show(value) for value in row) + " |")
    return "\n".join(lines)


def conditions(run: Run) -> str:
    """The run's conditions in a few lines, so that nobody has to guess them from a figure."""
    experiment, machine = run.experiment, run.environment.get("machine", {})
    load = "closed loop"
    if experiment.get("rate"):
        load = f"open loop, {experiment['rate']:,} operations/s, Poisson arrivals"
    elif experiment.get("rates"):
        load = f"open loop, {len(experiment['rates'])} rates, Poisson arrivals"
    lines = [
        f"- {experiment['nodes']} nodes, {experiment['clients']} clients, {load}, "
        f"workload {experiment['workload']}, values of {experiment['value_size']} bytes",
        f"- election timeout {experiment['election_timeout_ms']} ms, log synced to disk: "
        f"{'yes' if experiment['sync'] else 'no'}",
        f"- all hosts share one machine: {machine.get('cores', '?')} cores "
        f"({machine.get('cpu', 'unknown')}), kernel {machine.get('kernel', '?')}; "
        f"links by {run.environment.get('links', '?')}; "
        f"load average before the run: {machine.get('load_average', '?')}",
        f"- commit {run.environment.get('commit', '?')}, run {run.path.name}",
    ]
    return "\n".join(lines)


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
        sentence,
        judged(run),
    ]
    if run.experiment.get("rates"):
        table, knee = steady_points(run)
        plots.save(
            plots.latency_throughput(table, knee, "Latency against throughput"),
            figures,
            "latency-throughput",
        )
        parts += [
            "![Latency against throughput](figures/latency-throughput.svg)",
            markdown(table, 2),
            "Median of the repeats, with the lowest and the highest; `achieved_half`: half-width "
            "of the 95 % t interval of the mean. Knee (achieves "
            + f"{KEEPS_UP:.0%} of the offered load): "
            + (
                f"{knee['achieved']:,.0f} operations/s."
                if knee is not None
                else "none in this range."
            ),
        ]
    else:
        table = faults.summary(run)
        plots.save(plots.timeline(run, run.experiment.get("title")), figures, "timeline")
        parts += [
            "![Throughput and latency over time](figures/timeline.svg)",
            markdown(table),
            "Downtime: longest time between two successful replies between this fault and the next "
            "event; `elected_ms`: from the fault to the first sign of a new leader.",
        ]
        for event in run.schedule.itertuples():
            if event.action == "kill":
                name = f"election-{event.number}"
                series = run.schedule.loc[event.Index]
                plots.save(plots.election(run, series), figures, name)
                parts.append(f"![Election after {event.label}](figures/{name}.svg)")
        requests = stages.requests(run.events, run.operations)
        if len(requests):
            plots.save(plots.stage_latency(requests), figures, "stages")
            parts += [
                "![Latency by stage](figures/stages.svg)",
                markdown(stages.summary(requests), 2),
                f"{stages.coverage(requests, run.operations):.1%} of the successful commands could "
                "be followed through every stage.",
            ]
    parts.append(
        f"Made by `make mininet-experiment EXPERIMENT={run.name}`; figures again by "
        f"`python -m loggos.analyse` on the run's folder."
    )
    table.to_csv(run.path / "summary.csv", index=False, float_format="%.6g")
    (run.path / "summary.md").write_text("\n\n".join(parts) + "\n")
    return sound


def publish(run: Run) -> Path:
    """Copies the tables, figures and parameters of a reference run to the experiment's folder."""
    target = run.path.parent
    names = [
        "summary.md",
        "summary.csv",
        "experiment.json",
        "environment.json",
        "faults.jsonl",
        "check.json",
    ]
    for name in names:
        if (run.path / name).exists():
            shutil.copyfile(run.path / name, target / name)
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
        print(f"Published: {publish(run)}")
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
