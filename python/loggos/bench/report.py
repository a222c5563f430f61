"""The report of a run: tables for the terminal and for Markdown, made of its folder alone."""

import json
import shutil
from pathlib import Path

import pandas as pd

from loggos.bench import bars, figure, measures
from loggos.bench.context import GREEN, RED, Console
from loggos.bench.machine import is_busy
from loggos.bench.systems import SYSTEMS
from loggos.tables import markdown

# Of a run, what its reference is.
PUBLISHED = (
    "summary.md",
    "puts.csv",
    "bars.csv",
    "machine.json",
    "throughput.png",
    "throughput.svg",
)
NAMES = {
    "puts-1": "puts, 1",
    "puts-16": "puts, 16",
    "puts-64": "puts, 64",
    "puts-256": "puts, 256",
    "puts-64x16": "puts, 64 x 16",
    "reads-64": "reads, 64",
    "reads-64-quorum": "by quorum, 64",
}
NOTES = """Each number is the median of the repetitions, with the 95 % t interval of their geometric
mean; ratios are made within each repetition. All nodes and the load generator share the machine.
Loads are closed: each client has so many requests in flight, one if nothing else is said, values
have 256 bytes, keys are 10,000. Redis is one node that syncs before it replies; reads of ZooKeeper
are of the leader's state, which is less than linearizable. Downtime is the longest time without a
reply to one client that asks without pause."""


def number(value: float) -> str:
    """Three digits that count, and no more than are there."""
    if pd.isna(value):
        return "–"
    if abs(value) >= 1e6:
        return f"{value / 1e6:,.2f}M"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def interval(row: pd.Series, name: str = "") -> str:
    """From where to where the interval goes; nothing if there is none."""
    low, high = (row[f"{name}_low"], row[f"{name}_high"]) if name else (row["low"], row["high"])
    return "" if pd.isna(low) else f"{number(low)}..{number(high)}"


def terminal(frame: pd.DataFrame, failures: list[str], console: Console) -> str:
    """Both tables, in lines of at most 80 columns."""
    lines = []
    loads = bars.loads(frame)
    if len(loads):
        lines.append(f"{'load':<15}{'system':<11}{'ops/s':>9}{'95 %':>17}{'p50 ms':>8}{'p99 ms':>8}"
                     f"{'Loggos x':>10}")  # fmt: skip
        for _, row in loads.iterrows():
            times = number(row["times"]) if row["system"] != "loggos" else ""
            lines.append(
                f"{NAMES.get(row['load'], row['load']):<15}{row['system']:<11}"
                f"{number(row['throughput']):>9}{interval(row, 'throughput'):>17}"
                f"{row['p50_us'] / 1e3:>8.2f}{row['p99_us'] / 1e3:>8.2f}{times:>10}".rstrip()
            )
        lines.append("")
    judged = bars.judge(frame)
    if len(judged):
        lines.append(f"{'bar':<4}{'':<41}{'value':>7}{'95 %':>14}{'limit':>9}  met")
        for _, row in judged.iterrows():
            value = f"{number(row['value'])}"
            met = console.paint(row["met"], GREEN if row["met"] == "yes" else RED)
            unit = f", {row['unit']}" if row["unit"] not in ("", "x") else ""
            lines.append(
                f"{row['bar']:<4}{(row['what'] + unit)[:41]:<41}{value:>7}{interval(row):>14}"
                f"{row['limit']:>9}  {met}".rstrip()
            )
    lines += ["", *(f"failed {why}" for why in failures)] if failures else []
    return "\n".join(lines)


def write(run: Path) -> tuple[pd.DataFrame, list[str]]:
    """Writes the tables, the page and the figure into a run's folder; returns its numbers and what
    failed."""
    frame, failures = measures.read(run / "measures.jsonl")
    machine = json.loads((run / "machine.json").read_text())
    loads, judged = bars.loads(frame), bars.judge(frame)
    loads.to_csv(run / "puts.csv", index=False, float_format="%.6g")
    judged.to_csv(run / "bars.csv", index=False, float_format="%.6g")
    drawn = len(loads) > 0 and figure.can_draw(loads)
    if drawn:
        figure.save(loads, run)
    (run / "summary.md").write_text(page(machine, frame, failures, drawn))
    return frame, failures


def page(machine: dict, frame: pd.DataFrame, failures: list[str], drawn: bool) -> str:
    """The run in Markdown."""
    parts = ["# bench: Loggos beside other systems, and beside its machine", _conditions(machine)]
    if machine["quick"]:
        parts.append("**A quick run, to try things out: these numbers mean little.**")
    if is_busy(machine):
        parts.append("**Others were using the machine when the run began: numbers mean little.**")
    if failures:
        parts.append("Not measured:\n\n" + "\n".join(f"- {why}" for why in failures))
    if drawn:
        parts.append("![Throughput and latency by clients](throughput.svg)")
    tables = {
        "What is asked, and what was measured": _judged(bars.judge(frame)),
        "All systems": _loads(bars.loads(frame)),
        "Values of many sizes, three nodes": _values(bars.values(frame)),
        "The machine alone": _limits(bars.limits(frame)),
    }
    for title, table in tables.items():
        if len(table):
            parts += [f"## {title}", markdown(table)]
    parts += [
        NOTES,
        "Made by `make bench`; tables and figure again by `PYTHONPATH=python .venv/bin/python -m "
        "loggos.bench --report FOLDER` on the run's folder.",
    ]
    return "\n\n".join(parts) + "\n"


def _intervals(rows: pd.DataFrame, name: str = "") -> list[str]:
    return [interval(row, name) for _, row in rows.iterrows()]


def _judged(rows: pd.DataFrame) -> pd.DataFrame:
    units = zip(rows["value"], rows["unit"], strict=True)
    return pd.DataFrame(
        {
            "bar": rows["bar"],
            "what": rows["what"],
            "value": [f"{number(value)} {unit}".strip() for value, unit in units],
            "95 %": _intervals(rows),
            "limit": rows["limit"],
            "met": rows["met"],
        }
    )


def _loads(rows: pd.DataFrame) -> pd.DataFrame:
    if len(rows) == 0:
        return rows
    times = rows["times"].where(rows["system"] != "loggos")
    return pd.DataFrame(
        {
            "load": [NAMES.get(load, load) for load in rows["load"]],
            "system": [SYSTEMS[name].label for name in rows["system"]],
            "ops/s": rows["throughput"].map(number),
            "95 %": _intervals(rows, "throughput"),
            "p50 ms": (rows["p50_us"] / 1e3).map(number),
            "p99 ms": (rows["p99_us"] / 1e3).map(number),
            "p99.9 ms": (rows["p999_us"] / 1e3).map(number),
            "client us/op": rows["client_cpu_us"].map(number),
            "Loggos, times": times.map(number),
            "95 % of that": pd.Series(_intervals(rows, "times")).where(times.notna(), ""),
        }
    )


def _values(rows: pd.DataFrame) -> pd.DataFrame:
    if len(rows) == 0:
        return rows
    return pd.DataFrame(
        {
            "bytes": rows["size"],
            "puts/s": rows["throughput"].map(number),
            "MB/s": rows["mb_s"].map(number),
            "95 %": _intervals(rows),
            "of a third of the disk": rows["share"].map(number),
        }
    )


def _limits(rows: pd.DataFrame) -> pd.DataFrame:
    if len(rows) == 0:
        return rows
    units = zip(rows["value"], rows["unit"], strict=True)
    return pd.DataFrame(
        {
            "what": rows["what"],
            "value": [f"{number(value)} {unit}" for value, unit in units],
            "95 %": _intervals(rows),
        }
    )


def _conditions(machine: dict) -> str:
    versions = ", ".join(machine["versions"].values())
    lines = [
        f"- {machine['cores']} cores ({machine['cpu']}), {machine['memory_mib']:,} MiB of memory, "
        f"kernel {machine['kernel']}, {machine['system']}",
        f"- disk: {machine['disk']}; load average before the run: {machine['load_average']}",
        f"- {versions or 'no system ran'}; commit {machine['commit']}",
        f"- {machine['date']}, {machine['repeats']} times {machine['duration_s']:g} s of load",
    ]
    return "\n".join(lines)


def publish(run: Path) -> Path:
    """Copies what is to be kept of a reference run to the folder above it."""
    target = run.parent
    for name in PUBLISHED:
        if (run / name).exists():
            shutil.copyfile(run / name, target / name)
    return target
