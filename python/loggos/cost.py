"""The comparison `cost`: what an operation costs in processor time, memory, network and syncs."""

import json
import re
from pathlib import Path

import pandas as pd

from loggos import cells, plots, plots_compare
from loggos.cells import Cell
from loggos.runs import Run
from loggos.tables import markdown, with_half

# A line of strace as a call begins; one that ends later has a second line without a bracket here.
SYNC = re.compile(r"^\d+\s+(\d+\.\d+) (?:fsync|fdatasync|sync_file_range|msync|syncfs)\(")
USED = ["cpu_us", "cpu_most_us", "packets", "bytes", "flushes", "rss_mib", "idle_mib"]
MEASURES = ["achieved", *USED, "syncs"]


def used(cell: Cell) -> list[dict]:
    """A row for each load of a cell: what all nodes used between its two counts, an operation.

    `cpu_us` of all nodes, `cpu_most_us` of the busiest; `packets` and `bytes` that nodes sent;
    `flushes` of the disk, whoever asked; `rss_mib` of the largest node in the end, `idle_mib`
    before any load; in a cell that counts them only `syncs`, of all nodes.
    """
    lines = (cell.run.path / "usage.jsonl").read_text().splitlines()
    counts = [json.loads(line) for line in lines]
    idle = json.loads((cell.run.path / "idle.json").read_text())
    rows = []
    for bench in cell.run.benches:
        load = cells.load_of(bench)
        first, last = (
            next(it for it in counts if it["label"] == f"bench-{load}" and it["count"] == which)
            for which in ("first", "last")
        )
        # A load is as high throughout as its report says; the counts lie within it.
        operations = bench["throughput"] * (last["monotonic_s"] - first["monotonic_s"])
        row = {"system": cell.system, "repeat": cell.repeat, "load": load}
        row |= {"achieved": bench["throughput"]}
        if cell.changes.get("count_syncs"):
            rows.append(row | {"syncs": _syncs(cell, first, last) / operations})
            continue
        cpu = [last["processor_s"][node] - spent for node, spent in first["processor_s"].items()]
        sent = {
            kind: sum(last["sent"][host][kind] - first["sent"][host][kind]
                      for host in first["sent"] if host.startswith("n"))
            for kind in ("packets", "bytes")
        }  # fmt: skip
        row |= {
            "cpu_us": sum(cpu) * 1e6 / operations,
            "cpu_most_us": max(cpu) * 1e6 / operations,
            "packets": sent["packets"] / operations,
            "bytes": sent["bytes"] / operations,
            "flushes": _flushes(first, last) / operations,
            "rss_mib": max(node["rss"] for node in last["memory_kib"].values()) / 1024,
            "idle_mib": max(node["rss"] for node in idle.values()) / 1024,
        }
        rows.append(row)
    return rows


def _syncs(cell: Cell, first: dict, last: dict) -> int:
    """How many syncs began at any node between the two counts."""
    total = 0
    for path in cell.run.path.glob("syncs-n*.txt"):
        times = (SYNC.match(line) for line in path.read_text().splitlines())
        found = (float(match.group(1)) for match in times if match)
        total += sum(first["wall_s"] <= time < last["wall_s"] for time in found)
    return total


def _flushes(first: dict, last: dict) -> float:
    if not (first["disk"] and last["disk"]) or first["disk"]["flushes"] is None:
        return float("nan")
    return last["disk"]["flushes"] - first["disk"]["flushes"]


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each load and system, with t intervals."""
    by = ["load", "system"]
    rows = rows.sort_values("load", kind="stable")
    counted = rows["syncs"].notna()
    table = cells.intervals(rows[~counted], by, ["achieved", *USED])
    return table.merge(cells.intervals(rows[counted], by, ["syncs"]).drop(columns="n"), on=by)


def report(run: Run, figures: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table, and the parts of the page."""
    rows = pd.DataFrame([row for cell in cells.load(run) for row in used(cell)])
    table = summary(rows)
    plots.save(plots_compare.costs(table, "closed"), figures, "cost")
    parts = ["![What an operation costs](figures/cost.svg)"]
    experiment = run.experiment
    words = {
        "light": f"At {experiment['rate']:,} operations/s:",
        "closed": f"In a closed loop of {experiment['clients'] * experiment['in_flight']}:",
    }
    for load, mine in table.groupby("load", sort=False):
        parts += [words[load], markdown(_shown(mine), 2)]
    parts.append(
        "Of all nodes together, an operation, mean over the repetitions ± half its 95 % t "
        "interval: `cpu_us` microseconds of processor time from /proc (`cpu_most_us`: of the "
        "busiest node); `packets` and `bytes` that nodes sent, replies included, counted at the "
        "switch (a packet may hold up to 64 KiB before it is cut for a real wire); `syncs` in "
        "cells of their own under strace, whose throughput is not used. `flushes`: of the whole "
        "disk, whoever asked for them. `rss_mib`: resident memory of the largest node in the end, "
        "`idle_mib` before any load. LMDB also writes one page through a descriptor that syncs by "
        "itself, which only `flushes` has."
    )
    return table, parts


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table for people: a measure with its interval in one column."""
    shown = pd.DataFrame({"system": table["system"]})
    for name in MEASURES:
        pairs = zip(table[name], table[f"{name}_half"], strict=True)
        shown[name] = [with_half(mean, half) for mean, half in pairs]
    return shown
