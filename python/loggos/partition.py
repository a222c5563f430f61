"""The experiment `partition`: how long service was away after each cut, in election timeouts."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from loggos import faults, plots, plots_partition, stats, stretches, trace
from loggos.runs import Run
from loggos.tables import markdown

# What the project promises: a leader that reaches a quorum serves within so many election timeouts.
BAR_TIMEOUTS = 4.0
# For so long after a cut there may be replies to what was under way.
STRAGGLERS_TIMEOUTS = 2


def published(run: Run) -> pd.DataFrame:
    """The courses of a run that was analysed; those without cases have an empty one."""
    return pd.read_csv(run.path / "cuts.csv").fillna({"case": ""})


def deployments(run: Run) -> list[Path]:
    """The folders of the clusters of a run, the smallest first."""
    folders = run.path.glob("*-nodes")
    return sorted(folders, key=lambda path: int(path.name.split("-")[0]))


def cuts(run: Run) -> pd.DataFrame:
    """A row for each course of each scenario, of all clusters; the columns of `measured`. Those in
    which the machine stood still, and which were played again, are left out."""
    frames = []
    for folder in deployments(run):
        lines = (folder / "cuts.jsonl").read_text().splitlines()
        courses = pd.DataFrame([json.loads(line) for line in lines])
        nodes = int(folder.name.split("-")[0])
        signs = faults.signs(stretches.records(folder.glob("traces/n*.trace"), stretches.SIGNS))
        replies = replies_of(folder)
        timeout_ns = run.experiment["election_timeout_ms"] * 1_000_000
        frames.append(measured(courses[~courses["disturbed"]], signs, replies, nodes, timeout_ns))
    return pd.concat(frames, ignore_index=True)


def replies_of(folder: Path) -> pd.DataFrame:
    """The successful operations of all clients: `end_ns`, and `node`, whose client it was."""
    frames = []
    for path in sorted(folder.glob("traces/bench-n*.trace")):
        operations = stats.succeeded(trace.operations(trace.read(path)))
        node = int(path.stem.removeprefix("bench-n"))
        frames.append(operations[["end_ns"]].assign(node=node))
    return pd.concat(frames).sort_values("end_ns", ignore_index=True)


def measured(
    courses: pd.DataFrame, signs: pd.DataFrame, replies: pd.DataFrame, nodes: int, timeout_ns: int
) -> pd.DataFrame:
    """What became of each course.

    Columns: `nodes`, `scenario`, `case`, `repetition`; in election timeouts `away`, until service
    was back, and `away_all`, the same for the client that waited longest of those whose node has a
    whole link to another one; `back`, whether it was before the links were healed; and how many
    leaders were elected: `elected` while the links were cut, `after` of them once service was back
    and the bar had passed, `healed` from then until all was well.
    """
    ends = replies["end_ns"].to_numpy()
    of_node = {node: rows["end_ns"].to_numpy() for node, rows in replies.groupby("node")}
    elected = signs["time_ns"].to_numpy()

    def count(start: int, end: int) -> int:
        return int(np.searchsorted(elected, end) - np.searchsorted(elected, start))

    rows = []
    for course in courses.itertuples():
        bar_ns = course.cut_ns + int(BAR_TIMEOUTS * timeout_ns)
        service = away(ends, course, timeout_ns)
        clients = [away(of_node.get(node, ends[:0]), course, timeout_ns) for node in course.linked]
        back_ns = course.cut_ns + int(service["timeouts"] * timeout_ns)
        rows.append(
            {
                "nodes": nodes,
                "scenario": course.scenario,
                "case": course.case,
                "repetition": course.repetition,
                "away": service["timeouts"],
                "away_all": max(client["timeouts"] for client in clients),
                "back": service["back"],
                "elected": count(course.cut_ns, course.heal_ns),
                "after": count(max(back_ns, bar_ns), course.heal_ns),
                "healed": count(course.heal_ns, course.well_ns),
            }
        )
    return pd.DataFrame(rows)


def away(ends: np.ndarray, course: object, timeout_ns: int) -> dict:
    """How long there was no service to whom replies came at `ends`: `timeouts`, and whether it came
    `back` before the links were healed.

    Where links change once, it counts from then to the end of the longest time without a reply, if
    that begins soon: what was under way is still answered for a moment after the cut. Where they
    change again and again, or nothing was missed, it is the longest time without a reply itself.
    """
    gap = stats.longest_gap_of(ends, course.cut_ns, course.heal_ns)
    missed = gap.length_ns > timeout_ns
    soon = gap.start_ns < course.cut_ns + STRAGGLERS_TIMEOUTS * timeout_ns
    begin_ns = course.cut_ns if missed and soon and course.once else gap.start_ns
    # A pause at the end of the time that was watched is no outage.
    return {"timeouts": (gap.end_ns - begin_ns) / timeout_ns, "back": gap.recovered or not missed}


def summary(cuts: pd.DataFrame, by: tuple[str, ...] = ("scenario", "nodes")) -> pd.DataFrame:
    """A row for each scenario and cluster size, in the order in which they were played.

    Columns: `scenario`, `nodes`, `n`; of the time without service, in election timeouts, `median`,
    `mean`, `ci95` (half the width of the interval of the mean), `max`; `above_bar`, how many took
    longer; `all_clients`, the median for the client that waited longest; `elected`, leaders elected
    a course; `after` and `healed`, leaders elected when nothing asked for one.
    """
    rows = []
    for names, group in cuts.groupby(list(by), sort=False):
        interval = stats.t_interval(group["away"])
        rows.append(
            {
                **dict(zip(by, names, strict=True)),
                "n": len(group),
                "median": group["away"].median(),
                "mean": interval["mean"],
                "ci95": interval["half"],
                "max": group["away"].max(),
                "above_bar": int(
                    ((group["away"] > BAR_TIMEOUTS) | ~group["back"].astype(bool)).sum()
                ),
                "all_clients": group["away_all"].median(),
                "elected": group["elected"].mean(),
                "after": int(group["after"].sum()),
                "healed": int(group["healed"].sum()),
            }
        )
    table = pd.DataFrame(rows)
    order = {name: at for at, name in enumerate(cuts["scenario"].unique())}
    return table.sort_values(
        list(by), key=lambda column: column.map(order) if column.name == "scenario" else column,
        ignore_index=True, kind="stable",
    )  # fmt: skip


def report(run: Run, figures: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table, and the parts of the page."""
    found = cuts(run)
    table = summary(found)
    named = found[found["case"] != ""]
    found.to_csv(run.path / "cuts.csv", index=False, float_format="%.6g")
    plots.save(plots_partition.away(found, BAR_TIMEOUTS), figures, "away")
    above, after = table["above_bar"].sum(), table["after"].sum()
    sentence = (
        f"Service was back within {BAR_TIMEOUTS:g} election timeouts in all {len(found):,} courses."
        if above == 0
        else f"In {above} of {len(found):,} courses it took more than {BAR_TIMEOUTS:g} election "
        "timeouts until service was back."
    )
    parts = [
        f"**{sentence}** Leaders elected after that: {after}; after links were healed: "
        f"{table['healed'].sum()}.",
        "![Time without service](figures/away.svg)",
        markdown(table, 2),
        "Election timeouts until service was back: from the cut to the end of the longest time "
        "without a reply to any client (where links change again and again, or lose packets: that "
        "time alone); `ci95` is half the width of the mean's t interval. `all_clients`: median for "
        "the client that waited longest, of those at a node that has a whole link to another one. "
        "`elected`: leaders "
        f"elected a course; `after`: of them later than the bar of {BAR_TIMEOUTS:g} timeouts, when "
        "service was back; `healed`: after the links were healed. What each scenario does stands "
        "in `mininet/scenarios.py`.",
    ]
    if not named.empty:
        cases = summary(named, ("scenario", "case", "nodes"))
        parts += ["Case by case (L leads, `L→a` is cut from L to a):", markdown(cases, 2)]
    return table, parts
