import tracemalloc

import numpy as np
import pytest
import synthetic

from loggos import trace
from loggos.trace import Kind

RECORDS = [
    synthetic.record(30, Kind.APPLIED, 2, aux=4, a=9),
    synthetic.record(10, Kind.PROPOSED, 2, aux=3, a=5, b=6, c=0x0102_0304_0506_0708),
]


def test_the_golden_record_of_the_format():
    # The writer's own test has these bytes; a shifted field would give silently wrong figures.
    raw = bytes([1, 0, 0, 0, 0, 0, 0, 0, 40, 0, 2, 0, 3, 0, 0, 0, 4, *[0] * 7, 5, *[0] * 7])
    raw += bytes([8, 7, 6, 5, 4, 3, 2, 1])
    fields = np.frombuffer(raw, trace.RECORD)[0]
    assert fields.tolist() == (1, 40, 2, 3, 4, 5, 0x0102_0304_0506_0708)


def test_reads_what_was_written(tmp_path):
    frame = trace.read(synthetic.write_trace(tmp_path / "n2.trace", 2, RECORDS))
    assert frame["time_ns"].tolist() == [10, 30]
    assert frame["c"].tolist() == [0x0102_0304_0506_0708, 0]
    assert frame["writer"].tolist() == [2, 2]
    header = frame.attrs["header"]
    assert (header.source, header.node, header.pid, header.clock_error_ns) == ("node", 2, 102, 80)
    assert header.wall_offset_ns == header.wall_ns - header.monotonic_ns


def test_a_record_cut_short_is_ignored(tmp_path):
    # A process killed while it wrote leaves any number of bytes behind.
    path = synthetic.write_trace(tmp_path / "n2.trace", 2, RECORDS)
    whole = path.read_bytes()
    for cut, expected in [(1, 1), (39, 1), (40, 1), (41, 0), (80, 0)]:
        path.write_bytes(whole[: len(whole) - cut])
        assert len(trace.read(path)) == expected
    path.write_bytes(whole + b"x" * 39)
    assert len(trace.read(path)) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a trace"),
        (b"PK\x03\x04 something else", "not a trace"),
        (b"LOGGTRAC" + bytes(8), "cut short"),
        (synthetic.header(1, version=2), "format 2"),
        (synthetic.header(1, record_size=48), "48 bytes"),
        (synthetic.header(1, source=7), "source 7"),
    ],
)
def test_a_file_that_is_not_ours_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "bad.trace"
    path.write_bytes(content)
    with pytest.raises(trace.TraceError, match=message) as error:
        trace.read(path)
    assert "bad.trace" in str(error.value)


def test_several_files_are_one_history(tmp_path):
    # Each process writes a file of its own; the history must come out in the order of time.
    paths = [
        synthetic.write_trace(tmp_path / "n1.trace", 1, [synthetic.record(20, Kind.ADOPTED, 1)]),
        synthetic.write_trace(tmp_path / "n2.trace", 2, RECORDS),
    ]
    frame = trace.read_all(paths)
    assert frame["time_ns"].tolist() == [10, 20, 30]
    assert frame["writer"].tolist() == [2, 1, 2]
    assert len(trace.read_all([])) == 0


def test_operations_count_latency_from_the_intended_start(tmp_path):
    outcome_unknown, incr = 3, 2
    aux = incr | outcome_unknown << 8
    record = synthetic.record(900, Kind.CLIENT_OPERATION, 3, aux=aux, a=7, b=8, c=400)
    operations = trace.operations(trace.read(synthetic.write_trace(tmp_path / "c", 0, [record])))
    row = operations.iloc[0]
    assert (row["start_ns"], row["end_ns"], row["latency_ns"]) == (400, 900, 500)
    assert (row["session"], row["sequence"], row["node"]) == (7, 8, 3)
    assert (row["operation"], row["outcome"]) == (incr, outcome_unknown)


def test_kinds_that_are_asked_for_are_read_and_no_others(tmp_path):
    paths = [
        synthetic.write_trace(tmp_path / "n1.trace", 1, [synthetic.record(20, Kind.ADOPTED, 1)]),
        synthetic.write_trace(tmp_path / "n2.trace", 2, RECORDS),
    ]
    whole = trace.read_all(paths)
    for kinds in [(Kind.ADOPTED,), (Kind.APPLIED, Kind.ADOPTED), (Kind.FAULT,)]:
        chosen = trace.of_kind(whole, *kinds).reset_index(drop=True)
        assert trace.read_all(paths, *kinds).equals(chosen)


def test_records_of_many_chunks_keep_their_order(tmp_path, monkeypatch):
    records = [synthetic.record(time, Kind.APPLIED, 1, a=time) for time in range(10)]
    path = synthetic.write_trace(tmp_path / "n1.trace", 1, records)
    monkeypatch.setattr(trace, "CHUNK", 3)
    assert [len(part) for part in trace.chunks(path)] == [3, 3, 3, 1]
    assert trace.read_all([path, path])["a"].tolist() == [at for at in range(10) for _ in "12"]


def test_memory_grows_by_what_is_asked_for(tmp_path):
    """A hundred million records must fit, which holds if a few million take no more for each."""
    count = 5_000_000
    paths = []
    for node, offset in ((1, 0), (2, 3)):
        records = np.zeros(count // 2, trace.RECORD)
        records["time_ns"] = np.arange(count // 2) * 10 + offset
        records["kind"] = np.where(np.arange(count // 2) % 10 == 0, Kind.ADOPTED, Kind.APPLIED)
        paths.append(tmp_path / f"n{node}.trace")
        paths[-1].write_bytes(synthetic.header(node))
        with open(paths[-1], "ab") as file:
            records.tofile(file)

    def bytes_each(*kinds: Kind) -> tuple[float, int]:
        tracemalloc.start()
        rows = len(trace.read_all(paths, *kinds))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak / count, rows

    # 42 for the columns, 8 for the order, 12 for what sorting and one more column take.
    whole, rows = bytes_each()
    assert rows == count
    assert 42 <= whole < 70
    tenth, rows = bytes_each(Kind.ADOPTED)
    assert rows == count // 10
    assert tenth < 10
