"""The numbers of a run: one line of JSON each in `measures.jsonl`, as they come.

A line has `part`, `system`, `shape` (what was done to it), `metric`, `repetition` and `value`. What
is wrong with a run stands there too, as lines with `failure` instead of a value, so that the folder
of a run is all that a report needs.
"""

import json
from pathlib import Path

import pandas as pd

KEYS = ["part", "system", "shape", "metric", "repetition", "value"]


class Measures:
    """What has been measured so far."""

    def __init__(self, path: Path):
        self._path = path
        self.failures: list[str] = []

    def add(
        self, part: str, system: str, shape: str, repetition: int, **values: float | None
    ) -> None:
        """Adds numbers by the names of their metrics; what is None was not measured."""
        for metric, value in values.items():
            if value is not None:
                row = (part, system, shape, metric, repetition, float(value))
                self._write(dict(zip(KEYS, row, strict=True)))

    def fail(self, part: str, why: str) -> None:
        """Notes that something could not be measured."""
        self.failures.append(f"{part}: {why}")
        self._write({"part": part, "failure": why})

    def _write(self, row: dict) -> None:
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def read(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The numbers of `measures.jsonl`, a row each, and the failures."""
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    frame = pd.DataFrame([line for line in lines if "failure" not in line], columns=KEYS)
    return frame, [f"{line['part']}: {line['failure']}" for line in lines if "failure" in line]


def of_report(report: dict) -> dict[str, float | None]:
    """The metrics of a load generator's report."""
    chosen = report["writes" if report["writes"]["ok"] else "reads"]
    latency = chosen["latency_us"]
    return {
        "throughput": report["throughput"],
        **{f"{name}_us": latency[name] for name in ("p50", "p90", "p99", "p999", "max")},
        "client_cpu_us": report["generator_cpu_us_per_op"],
    }
