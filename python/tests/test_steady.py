"""Points of latency against throughput, and when there is a knee among them."""

from types import SimpleNamespace

from loggos.steady import steady_points


def run_of(*points: tuple[int, float]) -> SimpleNamespace:
    """A run with one report for each (offered, achieved), p50 1 ms and p99 2 ms."""

    def report(number: int, offered: int, achieved: float) -> dict:
        latency = {"p50": 1000, "p99": 2000}
        return {
            "file": f"bench-{number}-c1.json",
            "parameters": {"rate": offered},
            "throughput": achieved,
            "writes": {"ok": 1, "latency_us": latency},
        }

    return SimpleNamespace(benches=[report(i, *point) for i, point in enumerate(points)])


def test_the_knee_is_where_it_still_keeps_up():
    table, knee = steady_points(run_of((100, 100.0), (200, 199.0), (300, 210.0), (400, 190.0)))
    assert knee["offered"] == 200
    assert list(table["p50_ms"]) == [1.0] * 4


def test_without_saturation_there_is_no_knee():
    """The highest load offered was kept up with: where the knee lies, the run cannot tell."""
    _, knee = steady_points(run_of((100, 100.0), (200, 199.0)))
    assert knee is None


def test_never_keeping_up_is_no_knee_either():
    _, knee = steady_points(run_of((100, 50.0), (200, 50.0)))
    assert knee is None


def test_repeats_are_one_row_with_median_and_range():
    table, _ = steady_points(run_of((100, 90.0), (100, 100.0), (100, 98.0)))
    assert list(table["repeats"]) == [3]
    row = table.iloc[0]
    assert (row["achieved"], row["achieved_low"], row["achieved_high"]) == (98.0, 90.0, 100.0)
