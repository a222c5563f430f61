"""Throughput by the share of reads, from reports that are known; and who reads how."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from test_compare import new_cell, new_run

from loggos import analyse

sys.path.append(str(Path(__file__).resolve().parents[2] / "mininet"))

import mix_plan


def new_report(folder, skew, share, achieved):
    """A load generator's report: reads take 1 ms, writes 2 ms."""

    def operations(part, p50_us):
        ok = round(1000 * part)
        latency = {"p50": p50_us, "p99": 3 * p50_us, "mean": p50_us} if ok else {}
        return {"ok": ok, "unknown": 0, "latency_us": latency}

    report = {
        "parameters": {"rate": None, "skew": skew, "reads": share},
        "throughput": achieved,
        "reads": operations(share, 1000),
        "writes": operations(1 - share, 2000),
    }
    name = f"bench-skew-{skew:g}-reads-{100 * share:g}-c1.json"
    (folder / name).write_text(json.dumps(report))


def test_each_way_and_mix_is_a_row(tmp_path):
    run = new_run(tmp_path / "run", "mix", ["loggos", "etcd"], keys=10_000, lease_ms=1000)
    for repeat in (1, 2):
        for system, way in (("etcd", ""), ("loggos", "quorum"), ("loggos", "lease")):
            folder = new_cell(run, system, repeat, **({"way": way} if way else {}))
            for skew in (0.99, 0):
                for share in (1, 0, 0.5):
                    new_report(folder, skew, share, 1000 * (1 + share) + 10 * repeat)
    assert analyse.main([str(run)]) == 0
    table = pd.read_csv(run / "summary.csv", keep_default_na=False, na_values=["nan"])
    assert list(dict.fromkeys(zip(table["system"], table["way"], strict=True))) == [
        ("loggos", "lease"), ("loggos", "quorum"), ("etcd", ""),
    ]  # fmt: skip
    first = pd.read_csv(run / "summary.csv").head(3)
    assert first["share"].tolist() == [0, 0.5, 1]
    assert first["achieved"].tolist() == [1015, 1515, 2015]
    assert first["achieved_half"][0] == pytest.approx(12.706 * 5, rel=1e-3)
    assert first["read_p50_ms"].isna().tolist() == [True, False, False]
    assert first["write_p50_ms"].isna().tolist() == [False, False, True]
    assert (run / "figures" / "mix.png").stat().st_size > 1000


def test_only_loggos_reads_in_several_ways_and_only_by_lease_with_one():
    mix = replace(mix_plan.MIX, systems=("loggos", "etcd"), repeats=1)
    found = {cell.name: mix.of(cell).setup() for cell in mix.cells()}
    assert list(found) == [
        "01-loggos-way-leader", "01-loggos-way-lease", "01-loggos-way-quorum", "01-etcd",
    ]  # fmt: skip
    assert [name for name, setup in found.items() if setup] == ["01-loggos-way-lease"]
    assert found["01-loggos-way-lease"].lease_ms == mix.lease_ms
