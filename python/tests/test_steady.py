"""Points of latency against throughput, and when there is a knee among them."""

import pandas as pd
import pytest

from loggos.steady import knees, steady_points

KEEPS_UP = 0.95


def rows(*points: tuple[float, float], system: str = "loggos", repeat: int = 1) -> pd.DataFrame:
    """A load for each (offered, achieved), p50 1 ms and p99 2 ms."""
    return pd.DataFrame(
        [
            {"system": system, "repeat": repeat, "load": f"open-{offered:06.0f}",
             "offered": offered, "achieved": achieved, "p50": 1.0, "p99": 2.0, "mean": 1.2}
            for offered, achieved in points
        ]
    )  # fmt: skip


def knee_of(points: pd.DataFrame) -> list[float]:
    return list(points.loc[points["knee"], "offered"])


def test_the_knee_is_where_it_still_keeps_up():
    points = steady_points(rows((100, 100.0), (200, 199.0), (300, 210.0), (400, 190.0)), KEEPS_UP)
    assert knee_of(points) == [200]
    assert list(points["p50"]) == [1.0] * 4


def test_a_lucky_load_behind_the_first_that_was_too_much_is_no_knee():
    points = steady_points(rows((100, 100.0), (200, 150.0), (300, 299.0)), KEEPS_UP)
    assert knee_of(points) == [100]


def test_without_saturation_there_is_no_knee():
    """The highest load offered was kept up with: where the knee lies, the run cannot tell."""
    points = steady_points(rows((100, 100.0), (200, 199.0)), KEEPS_UP)
    assert knee_of(points) == []
    assert knees(points)["what"].tolist() == ["most achieved"]


def test_never_keeping_up_is_no_knee_either():
    points = steady_points(rows((100, 50.0), (200, 50.0)), KEEPS_UP)
    assert knee_of(points) == []


def test_repeats_are_one_row_with_its_interval():
    three = [rows((100, achieved), repeat=at) for at, achieved in enumerate((90.0, 100.0, 98.0))]
    (row,) = steady_points(pd.concat(three, ignore_index=True), KEEPS_UP).itertuples()
    assert row.n == 3
    assert row.achieved == 96
    assert row.achieved_half == pytest.approx(4.303 * 5.2915 / 3**0.5, rel=1e-3)


def test_each_system_has_its_own_knee():
    both = pd.concat(
        [rows((100, 100.0), (200, 90.0)), rows((100, 100.0), (200, 200.0), (300, 9.0), system="x")],
        ignore_index=True,
    )
    table = knees(steady_points(both, KEEPS_UP))
    assert dict(zip(table["system"], table["operations/s"], strict=True)) == {
        "loggos": 100,
        "x": 200,
    }


def test_in_closed_loops_there_is_no_knee():
    closed = rows((1, 100.0), (2, 150.0)).assign(offered=float("nan"))
    points = steady_points(closed, KEEPS_UP)
    assert len(points) == 2
    assert knees(points)["operations/s"].tolist() == [150]
