import numpy as np
import pandas as pd
import pytest

from loggos import stats
from loggos.trace import Outcome


def operations(ends, starts=None, outcomes=None):
    ends = np.array(ends, np.int64)
    starts = ends - 1 if starts is None else np.array(starts, np.int64)
    return pd.DataFrame(
        {
            "start_ns": starts,
            "end_ns": ends,
            "latency_ns": ends - starts,
            "outcome": [Outcome.OK] * len(ends) if outcomes is None else outcomes,
        }
    )


def test_throughput_shows_empty_windows_and_counts_edges_once():
    rows = stats.throughput(operations([0, 5, 10, 39, 40]), 0, 40, window_ns=10)
    assert rows["time_ns"].tolist() == [0, 10, 20, 30]
    assert rows["count"].tolist() == [2, 1, 0, 1]
    assert rows["per_second"].tolist() == [2e8, 1e8, 0, 1e8]


def test_what_failed_is_no_throughput_and_ends_no_outage():
    rows = operations([10, 50, 90], outcomes=[Outcome.OK, Outcome.UNKNOWN, Outcome.REFUSED])
    assert stats.throughput(rows, 0, 100, window_ns=100)["count"].tolist() == [2]
    assert stats.longest_gap(rows, 10, 95).length_ns == 80


def test_latency_belongs_to_the_window_in_which_it_was_to_start():
    ms = 1_000_000
    rows = operations([2 * ms, 250 * ms, 251 * ms], starts=[ms, 50 * ms, 249 * ms])
    result = stats.latency(rows, 0, 300 * ms)
    assert result["max"].tolist()[0] == 200
    assert np.isnan(result["p50"][1])
    assert result["p50"][2] == 2


def test_windows_have_throughput_and_latency_side_by_side():
    ms = 1_000_000
    rows = operations([2 * ms, 250 * ms, 251 * ms], starts=[ms, 50 * ms, 249 * ms])
    table = stats.windows(rows, 0, 350 * ms)
    assert table["at_s"].tolist() == [0.05, 0.15, 0.25]
    assert table["per_second"].tolist() == [10, 0, 20]
    assert table["max_ms"].fillna(0).tolist() == [200, 0, 2]
    assert stats.windows(rows, 50 * ms, 350 * ms, 300 * ms)["at_s"].tolist() == [0.15]


def test_quantiles_keep_the_shape_and_the_tail():
    table = stats.quantiles(np.arange(100_001) / 1000).set_index("share")["ms"]
    assert len(table) == 211
    assert table.index.is_monotonic_increasing and table.index.is_unique
    assert (table[0], table[0.25], table[0.999], table[1]) == pytest.approx((0, 25, 99.9, 100))


def test_longest_gap_is_measured_from_the_fault_to_the_first_reply():
    gap = stats.longest_gap(operations([90, 150, 160, 200]), 100, 210)
    assert (gap.start_ns, gap.end_ns, gap.recovered) == (100, 150, True)


def test_an_outage_that_outlasts_its_window_is_said_not_to_have_ended():
    gap = stats.longest_gap(operations([90, 110, 500]), 100, 300)
    assert (gap.length_ns, gap.recovered) == (190, False)
    nothing = stats.longest_gap(operations([]), 100, 300)
    assert (nothing.length_ns, nothing.recovered) == (200, False)


def test_ewma_forgets_half_in_a_halflife():
    smooth = stats.ewma(pd.Series([0.0] * 200 + [1.0] * 3), halflife=3)
    assert smooth.iloc[-1] == pytest.approx(0.5)


def test_percentiles_of_nothing_are_not_a_number():
    assert stats.percentiles(pd.Series(range(0, 101_000_000, 1_000_000)))["p99"] == 99
    assert stats.percentiles(pd.Series(dtype=float)).isna().all()


def test_t_interval_against_a_table():
    # Three repeats, 95 %: t(0.975, 2) = 4.303 times the standard error 1 / sqrt 3.
    interval = stats.t_interval(pd.Series([9.0, 10.0, 11.0]))
    assert interval["mean"] == 10
    assert interval["half"] == pytest.approx(4.303 / np.sqrt(3), rel=1e-3)
    assert np.isnan(stats.t_interval(pd.Series([5.0]))["half"])
