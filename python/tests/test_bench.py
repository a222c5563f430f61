"""`make bench` without measuring: what is read, how it becomes ratios, and how it is told."""

import argparse
import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic

from loggos import trace
from loggos.bench import (
    __main__ as command,
)
from loggos.bench import (
    bars,
    comparison,
    core,
    figure,
    lean,
    limits,
    machine,
    measures,
    processes,
    recovery,
    report,
    sizes,
)
from loggos.bench.context import Console
from loggos.bench.processes import Children, Failed
from loggos.bench.systems.base import parse_report
from loggos.bench.systems.loggos import Node, configuration, parse_status


def generator_report(writes: int = 10, reads: int = 0, failed: int = 0) -> dict:
    """As `loggos bench` and `rival-load` write it, as far as it is read."""

    def part(ok: int) -> dict:
        latency = {"p50": 250, "p90": 300, "p99": 400, "p999": 900, "max": 1000}
        counts = {"ok": ok, "refused": 0, "failed": failed, "unknown": 0}
        return {**counts, "latency_us": latency}

    return {
        "throughput": 1000.0,
        "generator_cpu_us_per_op": 7.5,
        "writes": part(writes),
        "reads": part(reads),
        "errors": {"no leader": failed} if failed else {},
    }


def test_a_report_becomes_metrics():
    found = measures.of_report(parse_report(json.dumps(generator_report())))
    assert (found["throughput"], found["p50_us"], found["client_cpu_us"]) == (1000, 250, 7.5)
    assert measures.of_report(generator_report(writes=0, reads=5))["p999_us"] == 900


@pytest.mark.parametrize("out", ["", "no JSON", "[]", "{}", '{"reads": 1, "writes": 2}'])
def test_what_is_no_report_is_told(out):
    with pytest.raises((Failed, TypeError)):
        parse_report(out)


def test_operations_that_failed_are_no_measurement():
    with pytest.raises(Failed, match="no leader"):
        parse_report(json.dumps(generator_report(failed=3)))


def test_the_core_prints_one_line():
    line = "a value, in batches of 1, at all three nodes: 1,161 ns, 25.50 allocations\n"
    assert core.parse(f"warming up\n{line}") == {"ns": 1161, "allocations": 25.5}
    with pytest.raises(Failed):
        core.parse("error: could not compile\n")


def test_limits_are_those_of_small_commits_and_messages():
    rows = [
        {"writers": w, "bytes": b, "p50_us": 10 * w + b, "per_s": 1.0}
        for w in (1, 3)
        for b in (256, 4096)
    ]
    found = limits.parse_disk({"commits": rows, "read_bytes_per_s": 2.0})
    assert (found["commit_us"], found["commit_of_3_us"]) == (266, 286)
    trips = [{"bytes": 64, "p50_us": 15.0}, {"bytes": 256, "p50_us": 16.0}]
    found = limits.parse_network({"round_trips": trips, "stream_bytes_per_s": 3.0})
    assert found["round_trip_us"] == 16


def test_several_writers_are_counted_together(tmp_path):
    assert limits.write_bandwidth(tmp_path, 3, 1 << 20) > 0
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="nowhere"):
        limits.write_bandwidth(tmp_path / "nowhere", 1, 1)


def test_memory_is_read_by_kind():
    status = "Name:\tloggos\nVmRSS:\t    4000 kB\nRssAnon:\t 1000 kB\nRssFile:\t 3000 kB\n"
    found = processes.parse_memory(status)
    assert found == {"rss": 4_096_000, "anon": 1_024_000, "file": 3_072_000}
    other = {"rss": 1, "anon": 2_000_000, "file": 2}
    assert lean.most([found, other]) == {"rss": 4_096_000, "anon": 2_000_000, "file": 3_072_000}


def test_the_configuration_leaves_defaults_alone():
    nodes = [Node(at, Path(f"/x/n{at}"), f"127.0.0.1:{at}") for at in (1, 2)]
    text = configuration(nodes[0], nodes, [11, 12], {"timing": {"election_timeout_ms": 20}})
    assert 'data_dir = "/x/n1/data"' in text
    assert text.count("[[nodes]]") == 2
    assert text.rstrip().endswith("[timing]\nelection_timeout_ms = 20")
    assert "[timing]" not in configuration(nodes[0], nodes, [11, 12], {})


def test_status_of_who_answers():
    out = json.dumps({"nodes": [{"node": 2, "leading": True}, {"address": "x", "error": "gone"}]})
    assert parse_status(out) == {2: {"node": 2, "leading": True}}
    assert parse_status("") == parse_status("[]") == {}


def test_everybody_is_first_once():
    names = ["a", "b", "c"]
    assert [comparison.order(names, at)[0] for at in range(4)] == ["a", "b", "c", "a"]
    assert sorted(comparison.order(names, 2)) == names


def test_large_values_have_few_keys():
    for size in sizes.VALUE_SIZES:
        load = sizes.load_of(size)
        assert load.clients <= load.keys <= 10_000
        assert load.keys * size <= sizes.DATA_SIZE


def test_reads_are_counted_by_node():
    operations = pd.DataFrame({"operation": [0, 0, 1, 0], "node": [1, 2, 3, 1]})
    assert comparison.reads_by_node(operations) == {1: 2, 2: 1}


def test_the_foreground_is_split_at_the_catching_up(tmp_path):
    """Latency counts for the time in which an operation was to start."""
    ms = 1_000_000
    times = [(at, 2 * ms if at < 2000 * ms else 9 * ms) for at in range(0, 3000 * ms, 10 * ms)]
    records = np.zeros(len(times), trace.RECORD)
    records["kind"] = trace.Kind.CLIENT_OPERATION
    records["c"] = [start for start, _ in times]
    records["time_ns"] = [start + latency for start, latency in times]
    records["node"] = 1
    records["aux"] = 1
    path = tmp_path / "foreground.trace"
    path.write_bytes(synthetic.header(0) + records.tobytes())
    assert recovery.foreground_p99(path, 2000 * ms, 2500 * ms) == (2, 9)
    with pytest.raises(Failed):
        recovery.foreground_p99(path, 9000 * ms, 9500 * ms)


def test_files_are_read_and_forgotten(tmp_path):
    (tmp_path / "wal").mkdir()
    (tmp_path / "wal" / "1.seg").write_bytes(b"x" * 10_000)
    paths = recovery.files(tmp_path)
    assert [path.name for path in paths] == ["1.seg"]
    assert recovery.read_cold(paths) > 0
    assert recovery.log_size(tmp_path) >= 8192


def test_the_disk_is_that_of_the_innermost_mount(tmp_path):
    mounts = f"/dev/a / ext4 rw 0 0\n/dev/b {tmp_path} xfs rw 0 0\ntmpfs /run tmpfs rw 0 0\n"
    assert machine.disk(mounts, tmp_path / "deep") == "/dev/b, xfs (rw)"
    assert machine.disk(mounts, Path("/elsewhere")) == "/dev/a, ext4 (rw)"


def test_ports_are_not_those_of_connections():
    ports = processes.free_ports(5)
    first = int(processes.PORT_RANGE.read_text().split()[0])
    assert len(set(ports)) == 5
    assert all(port < first or first <= processes.PORT_FIRST for port in ports)


def test_children_end_with_what_they_said(tmp_path):
    children = Children()
    assert children.run(["echo", "hello"], 10) == "hello\n"
    with pytest.raises(Failed, match=r"ended with 2: .*nowhere"):
        children.run(["ls", tmp_path / "nowhere"], 10)
    with pytest.raises(Failed, match="did not end"):
        children.run(["sleep", "60"], 0.05)
    process = children.start(["sleep", "60"], tmp_path / "log")
    children.kill_all()
    assert process.returncode == -9


def frame(*rows: tuple) -> pd.DataFrame:
    """Numbers: part, system, shape, metric and the values of the repetitions."""
    lines = [
        (part, system, shape, metric, repetition, value)
        for part, system, shape, metric, values in rows
        for repetition, value in enumerate(values)
    ]
    return pd.DataFrame(lines, columns=measures.KEYS)


PUTS = frame(
    ("puts", "loggos", "puts-256", "throughput", [100.0, 300.0, 110.0]),
    ("puts", "etcd", "puts-256", "throughput", [10.0, 20.0, 11.0]),
)


def row(judged: pd.DataFrame, what: str) -> pd.Series:
    (index,) = judged.index[judged["what"] == what]
    return judged.loc[index]


def test_ratios_are_made_within_repetitions():
    """Medians of both sides would say 10 too, but with the interval of nothing that happened."""
    found = row(bars.judge(PUTS), "puts, 256 clients: times etcd")
    # 10, 15 and 10: the logarithms' mean is ln 11.447, and their error 0.1352; t(0.975, 2) = 4.303.
    assert (found["value"], found["n"], found["met"]) == (10, 3, "yes")
    assert found["low"] == pytest.approx(11.447 / np.exp(4.303 * 0.13516), rel=1e-3)
    assert found["high"] == pytest.approx(11.447 * np.exp(4.303 * 0.13516), rel=1e-3)
    assert bars.interval(pd.Series([0.0, 0.0])) == (0, 0)


def test_a_repetition_that_failed_is_left_out():
    half = PUTS[~((PUTS["system"] == "etcd") & (PUTS["repetition"] == 1))]
    assert row(bars.judge(half), "puts, 256 clients: times etcd")["n"] == 2


def test_what_was_not_measured_is_not_judged():
    judged = bars.judge(PUTS)
    assert list(judged["what"]) == ["puts, 256 clients", "puts, 256 clients: times etcd"]
    assert judged["met"].tolist() == ["", "yes"]
    assert len(bars.judge(frame())) == len(bars.loads(frame())) == 0


def test_one_client_beside_the_machine():
    numbers = frame(
        ("puts", "loggos", "puts-1", "p50_us", [180.0]),
        ("limits", "machine", "", "round_trip_us", [20.0]),
        ("limits", "machine", "", "commit_us", [60.0]),
    )
    found = row(bars.judge(numbers), "one client: p50, of the machine's limit")
    assert (found["value"], found["met"]) == (1.8, "no")
    assert np.isnan(found["low"])


def test_the_longest_outage_is_told_beside_the_median():
    gaps = frame(("downtime", "loggos", "default", "gap_ms", [100.0, 120.0, 400.0]))
    judged = bars.judge(gaps)
    assert judged["value"].tolist() == [120, pytest.approx(372), 400]
    assert judged["met"].tolist() == ["yes", "", ""]


def test_memory_counts_beyond_the_data():
    rows = [("rss", 70e6), ("anon", 10e6), ("data", 2.56e6)]
    numbers = frame(*(("lean", "loggos", "loaded", name, [value]) for name, value in rows))
    found = row(bars.judge(numbers), "256 clients: resident beyond the data")
    assert (found["value"], found["met"]) == (pytest.approx(67.44), "no")


def full_run(folder: Path) -> Path:
    """A run with all systems and a failure."""
    run = folder / "20260101-000000"
    run.mkdir(parents=True)
    kept = measures.Measures(run / "measures.jsonl")
    for repetition in range(3):
        for at, system in enumerate(("loggos", "etcd", "redis", "zookeeper")):
            for load in comparison.PUTS:
                found = measures.of_report(generator_report())
                found["throughput"] = 123_456.0 * load.clients / (1 + at) + repetition
                kept.add("puts", system, load.name, repetition, **found)
    kept.add("sizes", "loggos", "value-64", 0, throughput=5.0, bytes_s=320.0)
    kept.add("limits", "machine", "", 0, round_trip_us=16.0, commit_us=50.0, nothing=None)
    kept.fail("core", "cargo bench: it did not compile")
    described = {
        "date": "2026-01-01 00:00", "cpu": "x", "cores": 2, "memory_mib": 1024, "kernel": "6.1",
        "system": "Debian", "disk": "/dev/a, ext4 (rw)", "load_average": 0.1, "commit": "abc",
        "repeats": 3, "duration_s": 4, "quick": True, "versions": {"etcd": "etcd 3.4"},
    }  # fmt: skip
    (run / "machine.json").write_text(json.dumps(described))
    return run


def test_a_report_is_made_of_the_folder_alone(tmp_path):
    run = full_run(tmp_path)
    numbers, failures = report.write(run)
    assert failures == ["core: cargo bench: it did not compile"]
    text = (run / "summary.md").read_text()
    for words in ("quick run", "Not measured", "etcd 3.4", "Values of many sizes", "2 cores"):
        assert words in text
    assert len(pd.read_csv(run / "puts.csv")) == 4 * len(comparison.PUTS)
    assert set(pd.read_csv(run / "bars.csv")["bar"]) == {1, 2, 3}

    shown = report.terminal(numbers, failures, Console())
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert "\033" not in shown, "colour is for terminals"
    assert "failed core" in shown

    assert report.publish(run) == tmp_path
    assert {path.name for path in tmp_path.iterdir()} == {run.name, *report.PUBLISHED}


def test_a_figure_has_a_line_for_each_system(tmp_path):
    numbers, _ = measures.read(full_run(tmp_path) / "measures.jsonl")
    loads = bars.loads(numbers)
    assert figure.can_draw(loads)
    assert not figure.can_draw(loads[loads["load"] == "puts-64x16"])
    left, right = figure.draw(loads).axes
    assert len(left.containers) == 4
    assert len(right.lines) == 8


def test_the_command_line():
    options = command.arguments(["--peers", "redis, etcd", "--bars", ""])
    assert options.peers == ("etcd", "redis")
    assert options.bars == command.PARTS
    assert command.arguments(["--bars", "core,puts"]).bars == ("puts", "core")
    with pytest.raises(argparse.ArgumentTypeError, match="consul"):
        command.words("consul", ("etcd",))
    with pytest.raises(SystemExit):
        command.arguments(["--repeats", "0"])


def test_the_exit_code_tells_of_failures(tmp_path):
    run = full_run(tmp_path)
    with redirect_stdout(io.StringIO()):
        assert command.main(["--report", str(run)]) == 1
    lines = (run / "measures.jsonl").read_text().splitlines()
    kept = [line for line in lines if "failure" not in line]
    (run / "measures.jsonl").write_text("\n".join(kept))
    with redirect_stdout(io.StringIO()):
        assert command.main(["--report", str(run)]) == 0
