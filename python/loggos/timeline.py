"""One load and a schedule of faults: what happened when, and where requests spent their time."""

from pathlib import Path

import pandas as pd

from loggos import faults, plots, stages
from loggos.runs import Run
from loggos.tables import markdown


def report(run: Run, figures: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table, and the parts of the page."""
    table = faults.summary(run)
    plots.save(plots.timeline(run, run.experiment.get("title")), figures, "timeline")
    parts = [
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
    requests = stages.of_run(run)
    if len(requests):
        plots.save(plots.stage_latency(requests), figures, "stages")
        parts += [
            "![Latency by stage](figures/stages.svg)",
            markdown(stages.summary(requests), 2),
            f"{stages.coverage(requests, run.operations):.1%} of the successful commands could "
            "be followed through every stage.",
        ]
    return table, parts
