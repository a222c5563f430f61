"""The experiment `reconfigure`: what clients notice while nodes are replaced, and what it sends."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from loggos import faults, marks, plots, plots_reconfigure, stats
from loggos.runs import Run
from loggos.tables import kept, markdown

# Means of throughput over so long tell how deep it fell.
WINDOW_NS = 500_000_000


def journal(run: Run, kind: str) -> pd.DataFrame:
    """The lines of one kind of `reconfigure.jsonl`."""
    lines = map(json.loads, (run.path / "reconfigure.jsonl").read_text().splitlines())
    return pd.DataFrame([line for line in lines if line["kind"] == kind]).drop(columns="kind")


def sent(samples: pd.DataFrame) -> pd.DataFrame:
    """Bytes a second that each node sent between two samples: `time_ns` (of the later one) and a
    column for each node."""
    seconds = samples["time_ns"].diff().iloc[1:] / 1e9
    rates = samples.drop(columns="time_ns").diff().iloc[1:].div(seconds, axis=0)
    rates.insert(0, "time_ns", samples["time_ns"].iloc[1:])
    return rates.reset_index(drop=True)


def by_leader(rates: pd.DataFrame, leads: pd.DataFrame) -> pd.Series:
    """Of these, what the node sent that led then; NaN where none is known to have."""
    at = np.searchsorted(leads["start_ns"].to_numpy(), rates["time_ns"].to_numpy()) - 1
    leaders = [leads["node"].iloc[i] if i >= 0 else None for i in at]
    values = [
        row.get(f"n{leader}", np.nan)
        for leader, row in zip(leaders, rates.to_dict("records"), strict=True)
    ]
    return pd.Series(values, index=rates.index, dtype=float)


def shown_ns(run: Run) -> tuple[int, int]:
    """From when to when it is known what was sent, which is what the figure shows."""
    times = sent(journal(run, "sent"))["time_ns"]
    return int(times.min()), int(times.max())


def windows(run: Run) -> pd.DataFrame:
    """Throughput and latency over time, in the columns of `stats.windows`."""
    return stats.windows(run.operations, *shown_ns(run))


def traffic(run: Run) -> pd.DataFrame:
    """What was sent over time: `at_s` (seconds since the figure's begin), and in MB a second
    `all_mb_per_s` of all nodes and `leader_mb_per_s` of who led, NaN where nobody is known to."""
    rates = sent(journal(run, "sent"))
    return pd.DataFrame(
        {
            "at_s": (rates["time_ns"] - rates["time_ns"].min()) / 1e9,
            "all_mb_per_s": rates.drop(columns="time_ns").sum(axis=1) / 1e6,
            "leader_mb_per_s": by_leader(rates, faults.leaders(run)) / 1e6,
        }
    )


def marked(run: Run) -> pd.DataFrame:
    """A table of `marks`: `load` (all that the figure shows), each `step` with its label, and when
    a node was `elected`."""
    start, end = shown_ns(run)
    steps_ns = journal(run, "step").itertuples()
    leads = faults.leaders(run)
    leads = leads[(start < leads["start_ns"]) & (leads["start_ns"] < end)]
    rows = [
        ("load", "", 0, start, end),
        *(("step", step.label, 0, step.begin_ns, step.end_ns) for step in steps_ns),
        *(("elected", "", it.node, it.start_ns, it.start_ns) for it in leads.itertuples()),
    ]
    return marks.table(rows, start)


def steps(run: Run) -> pd.DataFrame:
    """A row for each replacement, and one for the calm before.

    Columns: `step`, `seconds`; `longest_gap_ms` without a reply; throughput as `mean_per_s` and the
    lowest of means over half a second, `lowest_per_s`; `p99_ms`; `leader_mb`, what the leaders sent
    meanwhile, and `all_mb`, what all nodes sent.
    """
    found = journal(run, "step")
    rates = sent(journal(run, "sent"))
    rates["leader"] = by_leader(rates, faults.leaders(run))
    spacing = rates["time_ns"].diff().fillna(0) / 1e9
    first = int(rates["time_ns"].min())
    calm = pd.DataFrame(
        [{"label": "calm", "begin_ns": first, "end_ns": int(found["begin_ns"].min())}]
    )
    rows = []
    for step in pd.concat([calm, found]).itertuples():
        operations = run.operations[run.operations["end_ns"].between(step.begin_ns, step.end_ns)]
        throughput = stats.throughput(operations, step.begin_ns, step.end_ns, WINDOW_NS)
        inside = rates["time_ns"].between(step.begin_ns, step.end_ns)
        amounts = rates[inside].drop(columns="time_ns").mul(spacing[inside], axis=0)
        seconds = (step.end_ns - step.begin_ns) / 1e9
        good = stats.succeeded(operations)
        rows.append(
            {
                "step": step.label,
                "seconds": seconds,
                "longest_gap_ms": stats.longest_gap(
                    run.operations, step.begin_ns, step.end_ns
                ).length_ns / 1e6,
                "mean_per_s": len(good) / seconds,
                "lowest_per_s": throughput["per_second"].min(),
                "p99_ms": stats.percentiles(good["latency_ns"], (99,))["p99"],
                "leader_mb": amounts["leader"].sum() / 1e6,
                "all_mb": amounts.drop(columns="leader").sum().sum() / 1e6,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def report(run: Run, figures: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table, and the parts of the page."""
    table = steps(run)
    over_time = kept(windows(run), run.path, "timeline-windows")
    seen = kept(marked(run), run.path, "timeline-marks")
    amounts = kept(traffic(run), run.path, "timeline-sent")
    plots.save(plots_reconfigure.timeline(over_time, seen, amounts), figures, "timeline")
    first, last = run.experiment["members"], run.experiment["replacements"]
    now = [node for node in first if node not in [old for old, _ in last]]
    now += [new for _, new in last if new not in [old for old, _ in last]]
    return table, [
        f"Members at first: {', '.join(f'n{node}' for node in first)}; in the end: "
        f"{', '.join(f'n{node}' for node in now)}.",
        "![Throughput, latency and bytes sent while nodes are replaced](figures/timeline.svg)",
        markdown(table, 1),
        "A step lasts from the start of the new node to the end of the old one. `lowest_per_s`: "
        "the lowest mean over half a second. `leader_mb`: what the leaders sent meanwhile, their "
        "replies to clients included.",
    ]
