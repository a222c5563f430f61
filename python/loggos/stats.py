"""Measures: throughput, latency, gaps, and how sure a mean is."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from loggos.trace import Outcome

WINDOW_NS = 100_000_000
PERCENTILES = (50, 90, 99, 99.9)
# What a figure shows of a distribution: every half percent, and more of the slowest hundredth.
SHARES = np.concatenate([np.arange(199) / 200, np.arange(991, 1000) / 1000, [0.9995, 0.9999, 1]])


@dataclass(frozen=True)
class Gap:
    """The longest time without a successful reply within a window."""

    start_ns: int
    end_ns: int
    recovered: bool
    """Whether a successful reply ended it (False: it lasted until the window's end)."""

    @property
    def length_ns(self) -> int:
        """How long it lasted."""
        return self.end_ns - self.start_ns


def succeeded(operations: pd.DataFrame) -> pd.DataFrame:
    """The operations to which the system gave an answer, be it a refusal of a condition."""
    return operations[operations["outcome"].isin([Outcome.OK, Outcome.REFUSED])]


def throughput(
    operations: pd.DataFrame, start_ns: int, end_ns: int, window_ns: int = WINDOW_NS
) -> pd.DataFrame:
    """Successful replies in each whole window of `start_ns..end_ns`, empty windows included.

    Columns: `time_ns` (the window's start), `count`, `per_second`.
    """
    edges = np.arange(start_ns, end_ns + 1, window_ns, dtype=np.int64)
    counts, _ = np.histogram(succeeded(operations)["end_ns"].to_numpy(), edges)
    # numpy's last bin includes its right edge; ours, like all others, must not.
    if len(counts):
        counts[-1] -= (succeeded(operations)["end_ns"] == edges[-1]).sum()
    return pd.DataFrame(
        {"time_ns": edges[:-1], "count": counts, "per_second": counts * (1e9 / window_ns)}
    )


def latency(
    operations: pd.DataFrame, start_ns: int, end_ns: int, window_ns: int = WINDOW_NS
) -> pd.DataFrame:
    """Latency of the successful operations that were to start in each window, in milliseconds.

    Columns: `time_ns`, `mean`, `p50`, `p99`, `max`; NaN in a window without operations.
    """
    times = np.arange(start_ns, end_ns - window_ns + 1, window_ns, dtype=np.int64)
    rows = succeeded(operations)
    rows = rows[
        (start_ns <= rows["start_ns"]) & (rows["start_ns"] < start_ns + len(times) * window_ns)
    ]
    group = (rows["latency_ns"] / 1e6).groupby((rows["start_ns"] - start_ns) // window_ns)
    result = pd.DataFrame(
        {
            "mean": group.mean(),
            "p50": group.quantile(0.50),
            "p99": group.quantile(0.99),
            "max": group.max(),
        }
    ).reindex(range(len(times)))
    result.insert(0, "time_ns", times)
    return result.reset_index(drop=True)


def windows(
    operations: pd.DataFrame, start_ns: int, end_ns: int, window_ns: int = WINDOW_NS
) -> pd.DataFrame:
    """Throughput and latency over time, as a figure shows them.

    Columns: `at_s` (the window's middle, in seconds since `start_ns`), `per_second` (successful
    replies), and in milliseconds `p50_ms`, `p99_ms` and `max_ms` of the operations that were to
    start in it, NaN where there were none.
    """
    rate = throughput(operations, start_ns, end_ns, window_ns)
    delay = latency(operations, start_ns, end_ns, window_ns)
    return pd.DataFrame(
        {
            "at_s": (rate["time_ns"] - start_ns + window_ns / 2) / 1e9,
            "per_second": rate["per_second"],
            **{f"{name}_ms": delay[name] for name in ("p50", "p99", "max")},
        }
    )


def quantiles(latency_ms: np.ndarray) -> pd.DataFrame:
    """A distribution in a fixed number of points: `share` of the operations (`SHARES`), and `ms`,
    the milliseconds that they took at most."""
    return pd.DataFrame({"share": SHARES, "ms": np.quantile(latency_ms, SHARES)})


def ewma(values: pd.Series, halflife: float = 3) -> pd.Series:
    """Exponentially weighted moving average; `halflife` in windows. NaN leaves it as it was."""
    return values.ewm(halflife=halflife, ignore_na=True).mean()


def percentiles(latency_ns: pd.Series, which: tuple[float, ...] = PERCENTILES) -> pd.Series:
    """Percentiles in milliseconds, indexed `p50`, `p99.9`, ..."""
    names = [f"p{which_one:g}" for which_one in which]
    if len(latency_ns) == 0:
        return pd.Series(np.nan, index=names)
    return pd.Series(np.percentile(latency_ns, which) / 1e6, index=names)


def longest_gap(operations: pd.DataFrame, start_ns: int, end_ns: int) -> Gap:
    """The longest time between two successful replies, as far as it lies in `start_ns..end_ns`.

    The window's edges count as if a reply came there: a gap that a fault at `start_ns` begins is
    measured from the fault, and one that outlasts the window is charged up to its end.
    """
    return longest_gap_of(np.sort(succeeded(operations)["end_ns"].to_numpy()), start_ns, end_ns)


def longest_gap_of(ends: np.ndarray, start_ns: int, end_ns: int) -> Gap:
    """The same for times of replies that are in order already."""
    inside = ends[np.searchsorted(ends, start_ns) : np.searchsorted(ends, end_ns)]
    edges = np.concatenate([[start_ns], inside, [end_ns]])
    longest = int(np.argmax(np.diff(edges)))
    return Gap(
        start_ns=int(edges[longest]),
        end_ns=int(edges[longest + 1]),
        recovered=longest + 1 < len(edges) - 1,
    )


def t_interval(values: pd.Series, confidence: float = 0.95) -> pd.Series:
    """Mean of the repeats, and the half width of its confidence interval (Student's t).

    With one repeat there is nothing to say about the deviation: the half width is NaN.
    """
    values = pd.Series(values, dtype=float).dropna()
    n = len(values)
    half = np.nan
    if n > 1:
        error = values.std(ddof=1) / np.sqrt(n)
        half = float(scipy_stats.t.ppf((1 + confidence) / 2, n - 1) * error)
    return pd.Series({"mean": values.mean(), "half": half, "n": n})
