"""One load and a schedule of faults: what happened when, and where requests spent their time."""

from pathlib import Path

import numpy as np
import pandas as pd

from loggos import faults, marks, plots, stages, stats
from loggos.runs import Run
from loggos.tables import kept, markdown
from loggos.trace import Kind

# More replies than this can't be told apart in the width of a figure.
REPLIES_MAX = 2000
OUTAGE_MAX_NS = 2_000_000_000


def windows(run: Run) -> pd.DataFrame:
    """Throughput and latency over the load, in the columns of `stats.windows`."""
    return stats.windows(run.operations, *run.load_ns)


def marked(run: Run) -> pd.DataFrame:
    """What was done to the cluster, and what its nodes were when: a table of `marks`."""
    return marks.table([*marks.of_schedule(run), *marks.of_nodes(run)], run.load_ns[0])


def election(run: Run, event: pd.Series, after_ms: float | None = None) -> pd.DataFrame:
    """What each node recorded around one fault, and when clients got replies: as much time as the
    outage asks for, or `after_ms` after the fault.

    A table of `marks` in milliseconds, with the event's number as `event`. `load` has the event's
    label, `gap` is the longest time without a reply; a `reply` is left out that would lie upon
    another one; the others are the nodes, when they led, and records by their kind (`adopted`).
    """
    time_ns = int(event["time_ns"])
    gap = stats.longest_gap(run.operations, time_ns, time_ns + OUTAGE_MAX_NS)
    after_ms = after_ms or max(100, 1.8 * (gap.end_ns - time_ns) / 1e6)
    before_ns, after_ns = round(0.2 * after_ms * 1e6), round(after_ms * 1e6)
    begin_ns, end_ns = time_ns - before_ns, time_ns + after_ns
    near = faults.around(run, time_ns, before_ns, after_ns)
    times_ns = time_ns + (near["ms"] * 1e6).round().astype("int64")
    leads = faults.leaders(run)
    leads = leads[(leads["start_ns"] < end_ns) & (leads["end_ns"] > begin_ns)]
    rows = [
        ("load", event["label"], 0, begin_ns, end_ns),
        ("gap", "", 0, gap.start_ns, gap.end_ns),
        *(("node", "", node, begin_ns, end_ns) for node in run.nodes),
        *(
            ("leads", "", it.node, max(it.start_ns, begin_ns), min(it.end_ns, end_ns))
            for it in leads.itertuples()
        ),
        *(
            (Kind(kind).name.lower(), "", node, at, at)
            for kind, node, at in zip(near["kind"], near["node"], times_ns, strict=True)
        ),
        *(("reply", "", 0, at, at) for at in _replies(run, begin_ns, end_ns)),
    ]
    found = marks.table(rows, time_ns, "ms")
    found.insert(0, "event", int(event["number"]))
    return found


def _replies(run: Run, begin_ns: int, end_ns: int) -> np.ndarray:
    """When there were successful replies, the first in each of so many steps."""
    ends = np.sort(stats.succeeded(run.operations)["end_ns"].to_numpy())
    ends = ends[(begin_ns <= ends) & (ends <= end_ns)]
    steps = (ends - begin_ns) * REPLIES_MAX // (end_ns - begin_ns + 1)
    return ends[np.unique(steps, return_index=True)[1]]


def report(run: Run, figures: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table, and the parts of the page."""
    table, experiment = faults.summary(run), run.experiment
    over_time = kept(windows(run), run.path, "timeline-windows")
    seen = kept(marked(run), run.path, "timeline-marks")
    figure = plots.timeline(over_time, seen, experiment.get("rate"), experiment.get("title"))
    plots.save(figure, figures, "timeline")
    parts = [
        "![Throughput and latency over time](figures/timeline.svg)",
        markdown(table),
        "Downtime: longest time between two successful replies between this fault and the next "
        "event; `elected_ms`: from the fault to the first sign of a new leader.",
    ]
    kills = [event for _, event in run.schedule.iterrows() if event["action"] == "kill"]
    if kills:
        frames = pd.concat([election(run, event) for event in kills])
        elections = kept(frames, run.path, "election-marks")
        for event in kills:
            name = f"election-{event['number']}"
            mine = elections[elections["event"] == event["number"]]
            plots.save(plots.election(mine), figures, name)
            parts.append(f"![Election after {event['label']}](figures/{name}.svg)")
    requests = stages.of_run(run)
    if len(requests):
        spread = kept(stages.quantiles(requests), run.path, "stages")
        plots.save(plots.stage_latency(spread), figures, "stages")
        parts += [
            "![Latency by stage](figures/stages.svg)",
            markdown(stages.summary(requests), 2),
            f"{stages.coverage(requests, run.operations):.1%} of the successful commands could "
            "be followed through every stage.",
        ]
    return table, parts
