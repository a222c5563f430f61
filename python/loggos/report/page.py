"""The report as one page of Markdown, `results/README.md`."""

import os
from pathlib import Path

from loggos import analyse
from loggos.report import overview
from loggos.report.entries import CHAPTERS, ENTRIES
from loggos.report.entry import Entry, Published, load
from loggos.report.short import ROWS_MAX, label
from loggos.tables import markdown

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "laboratory.md"
# A machine to measure on has no load when a run begins.
BUSY = 0.5

BEGIN = """# Loggos, measured

All experiments of the laboratory together, from what was published of them: tables, figures and
parameters in the folder of each. Made by `make report`, and by nobody's hand; the words are in
`python/loggos/report/`. How a run is made, what its folder holds and how things are measured is in
[docs/laboratory.md]({guide}).

Absolute numbers belong to the machine that each section names. What holds elsewhere is the order
of systems, the shape of curves, and counts of timeouts and round trips, and these only with the
reservations under **Not fair**."""


def published(results: Path) -> dict[str, Published]:
    """What was published, by experiment."""
    found = {name: load(results, name) for name in ENTRIES}
    return {name: there for name, there in found.items() if there}


def page(results: Path) -> str:
    """All of it."""
    there = published(results)
    guide = os.path.relpath(GUIDE, results.resolve())
    parts = [BEGIN.format(guide=guide), *side_by_side(there)]
    for chapter, entries in CHAPTERS.items():
        parts += [f"## {chapter}"]
        for entry in entries:
            parts += section(entry, there[entry.name]) if entry.name in there else missing(entry)
    return "\n\n".join(parts) + "\n"


def side_by_side(there: dict[str, Published]) -> list[str]:
    """The systems, what their numbers include, and who is first in what."""
    found = overview.measured(there)
    absent = [it.experiment for it in overview.MEASURES if it not in [one for one, _ in found]]
    parts = ["## Systems side by side"]
    if found:
        parts += [
            markdown(overview.table(found)),
            "The best of each column in bold; under load, and with what each system does to keep "
            "what it acknowledged, as the sections below say.",
            "\n".join(f"- {overview.sentence(measure, rows)}" for measure, rows in found),
        ]
    if absent:
        parts.append(
            "Not in this table, because there are no results of them (in their present form): "
            + ", ".join(f"`{name}`" for name in dict.fromkeys(absent))
            + "."
        )
    abouts = systems(there)
    if abouts:
        parts += ["What the numbers of each system include:", "\n".join(abouts)]
    return parts


def systems(there: dict[str, Published]) -> list[str]:
    """A line for each system of the comparisons: its version, and what its numbers include."""
    found = {}
    for one in there.values():
        if one.run.experiment.get("systems"):
            found |= analyse.of_systems(one.run)
    return [
        f"- **{label(name)}** ({about['version']}): {about['about']}"
        for name, about in found.items()
    ]


def section(entry: Entry, published: Published) -> list[str]:
    """One experiment of which there are results."""
    parts = [f"### {entry.name}: {entry.title}", entry.shows]
    links = (
        f"All of it: [page]({entry.name}/summary.md), [table]({entry.name}/{entry.source}.csv). "
        f"Again: `{entry.again}`."
    )
    if entry.is_of_another_form(published):
        return [
            *parts,
            "**These results are of an earlier form of the experiment** "
            f"({published.run.experiment['title']}); what they are is said on their own page.",
            conditions(published),
            *figures(published, {}),
            links,
        ]
    table = entry.table(published)
    parts += [conditions(published, entry.interval), *figures(published, entry.figures)]
    parts.append(markdown(table.head(ROWS_MAX), 2))
    if len(table) > ROWS_MAX:
        parts.append(f"The first {ROWS_MAX} of {len(table)} rows.")
    return [*parts, f"**Not fair:** {entry.unfair}", links]


def missing(entry: Entry) -> list[str]:
    """One of which there are none."""
    return [
        f"### {entry.name}: {entry.title}",
        f"{entry.shows} **No results yet.** To make them: `{entry.again}`, and `{entry.publish}`.",
    ]


def conditions(published: Published, interval: str = "") -> str:
    """What the numbers rest on."""
    run, experiment = published.run, published.run.experiment
    machine = run.environment.get("machine", {})
    repeats = experiment.get("repeats") or experiment.get("repetitions") or 1
    lines = [
        *(analyse.of_cluster(experiment) if "workload" in experiment else []),
        f"- n = {repeats}" + (f"; {interval}" if interval else ""),
        f"- {machine.get('cores', '?')} cores ({machine.get('cpu', '?')}), "
        f"{machine.get('memory_mib', 0) / 1024:.0f} GiB, kernel {machine.get('kernel', '?')}, "
        f"{machine.get('system', '?')}; load average before: {machine.get('load_average', '?')}"
        + (f"; links by {run.environment['links']}" if "links" in run.environment else ""),
        f"- {versions(run.environment)}; commit {said(run, 'commit')}, {said(run, 'date')[:10]}",
    ]
    if machine.get("load_average", 0) > BUSY:
        lines.append(
            "- **Others were using the machine when the run began**: to compare within it, as far "
            "as all had the same share of them, and not with other runs"
        )
    if run.verdicts:
        lines.append(f"- {analyse.judged(run)}")
    return "\n".join(lines)


def said(run: object, name: str) -> str:
    """What a run says of itself, or its machine does."""
    return run.environment.get(name) or run.experiment.get(name, "unknown")


def versions(environment: dict) -> str:
    """The versions of all systems."""
    if "systems" in environment:
        return ", ".join(about["version"] for about in environment["systems"].values())
    found = environment.get("machine", {}).get("versions")
    return ", ".join(found.values()) if found else environment.get("loggos", "?")


def figures(published: Published, named: dict[str, str]) -> list[str]:
    """The figures that are named, else all that are there."""
    if not named:
        found = sorted(published.path.glob("*.svg"))
        named = {path.stem: path.stem.replace("-", " ") for path in found}
    parts = []
    for name, words in named.items():
        there = (published.path / f"{name}.svg").exists()
        path = f"{published.path.name}/{name}.svg"
        parts.append(f"![{words}]({path})" if there else f"(There is no figure {path}.)")
    return parts
