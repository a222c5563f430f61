"""The experiment `calibration`: what was measured of links against what was asked of them."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from loggos import plots, plots_calibration, stretches
from loggos.runs import Run
from loggos.tables import markdown

SHAPE = ["delay_ms", "jitter_ms", "loss_percent", "reorder_percent"]
# A delay may be longer than asked for by so much, and never shorter.
DELAY_TOLERANCE_MS = 0.3
# If all is right, one share in so many is further off than is accepted.
CHANCE = 1e-4


def packets(run: Run) -> pd.DataFrame:
    """A row for each series of packets: the shape, and what became of them.

    Columns: `repeat`, the shape's own; `sent`, `lost`, `overtook` (how many arrived before one that
    was sent earlier); of their delay in ms the `median`, and `low` and `high`, the quartiles.
    """
    rows = []
    lines = stretches.lines(run.path / "cells.jsonl")
    for line in lines[lines["kind"] == "packets"].itertuples():
        came = pd.read_csv(run.path / "probes" / line.file)
        delay_ms = (came["received_ns"] - came["sent_ns"]) / 1e6
        low, median, high = np.percentile(delay_ms, [25, 50, 75])
        # The lowest number that comes later.
        later = came["number"][::-1].cummin()[::-1].shift(-1)
        rows.append(
            {
                "repeat": line.repeat,
                **{name: getattr(line, name) for name in SHAPE},
                "sent": line.sent,
                "lost": line.sent - came["number"].nunique(),
                "overtook": int((later < came["number"]).sum()),
                "low": low,
                "median": median,
                "high": high,
            }
        )
    return pd.DataFrame(rows)


def streams(run: Run) -> pd.DataFrame:
    """A row for each shape: `mbit_s` that one TCP connection carried, its interval, `n`."""
    lines = stretches.lines(run.path / "cells.jsonl")
    lines = lines[lines["kind"] == "stream"]
    rows = lines.assign(mbit_s=lines["bytes"] * 8e3 / lines["ns"])
    return stretches.means(rows, SHAPE, ["mbit_s"])


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each shape: the means of the repeats with half the width of their interval.

    Columns: the shape's; `n`; `measured_ms`, the median delay; `spread_ms`, what is between the
    quartiles, which for jitter that is drawn evenly is the jitter; `lost_percent`,
    `overtook_percent`; and `as_asked`, whether delay, loss and order are what was asked for.
    """
    rows = rows.assign(
        measured_ms=rows["median"],
        spread_ms=rows["high"] - rows["low"],
        lost_percent=100 * rows["lost"] / rows["sent"],
        overtook_percent=100 * rows["overtook"] / (rows["sent"] - rows["lost"]),
    )
    names = ["measured_ms", "spread_ms", "lost_percent", "overtook_percent"]
    table = stretches.means(rows, SHAPE, names)
    groups = rows.groupby(SHAPE, sort=False)
    table["as_asked"] = [bool(as_asked(group)) for _, group in groups]
    return table


def as_asked(group: pd.DataFrame) -> bool:
    """Whether packets of one shape were treated as it says, all repeats together."""
    asked = group.iloc[0]
    late_ms = group["median"].mean() - asked["delay_ms"]
    # In order, packets also wait for slower ones before them, which jitter makes.
    right = 0 <= late_ms <= DELAY_TOLERANCE_MS + asked["jitter_ms"] or (
        asked["jitter_ms"] > 0 and abs(late_ms) <= asked["jitter_ms"]
    )
    sent, lost = int(group["sent"].sum()), int(group["lost"].sum())
    return (
        right
        and likely(lost, sent, asked["loss_percent"])
        and likely(int(group["overtook"].sum()), sent - lost, asked["reorder_percent"])
    )


def likely(found: int, of: int, percent: float) -> bool:
    """Whether so many can be explained by a chance of so many percent."""
    if percent == 0:
        return found == 0
    return scipy_stats.binomtest(found, of, percent / 100).pvalue > CHANCE


def report(run: Run, figures: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table, and the parts of the page."""
    table, carried = summary(packets(run)), streams(run)
    plots.save(plots_calibration.calibration(table, carried), figures, "calibration")
    wrong = table[~table["as_asked"]]
    sentence = (
        f"**All {len(table)} shapes are as they were asked for.**"
        if wrong.empty
        else f"**{len(wrong)} of {len(table)} shapes are not as they were asked for.**"
    )
    both = pd.concat([table, carried], ignore_index=True)
    return both, [
        sentence,
        "![What was measured against what was asked for](figures/calibration.svg)",
        markdown(table, 2),
        "Packets of one direction, one every "
        f"{run.experiment['interval_us'] / 1000:g} ms, {run.experiment['count']:,} a repeat; all "
        "hosts have one clock. `measured_ms`: median delay; `spread_ms`: what lies between the "
        "quartiles, which would be the jitter if each packet had its own; but packets keep their "
        "order, so that those behind a slow one are slow, too: the spread shrinks, and the median "
        "grows. `overtook_percent`: arrived before one that was sent earlier. `_ci95` is half the "
        "width of the mean's t interval. `as_asked`: the "
        f"delay is at most {DELAY_TOLERANCE_MS:g} ms too long (and within the jitter), loss and "
        f"order differ no more than chance explains in {1 - CHANCE:.2%} of such runs.",
        "## TCP",
        markdown(carried.drop(columns=["jitter_ms", "reorder_percent"]), 1),
        f"One connection ({run.experiment['congestion_control']}) for "
        f"{run.experiment['stream_s']:g} s, its start included; the shape holds in both "
        "directions, and packets are no larger than a frame.",
    ]
