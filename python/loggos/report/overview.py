"""Systems side by side: of each measure who is first, and where Loggos stands."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from loggos import steady
from loggos.plots import SYSTEMS
from loggos.report.entries import ENTRIES
from loggos.report.entry import Published
from loggos.report.short import label
from loggos.tables import with_half, with_range

OURS = "loggos"
# Has no replicas.
SINGLE = "redis"
# The election timeout of the partitions that are compared here.
CONSTRAINED_MS = 500


@dataclass(frozen=True)
class Measure:
    """One number for each system, from one experiment. `find` gives a frame with `system`,
    `value`, and the ends of its interval, `low` and `high`."""

    experiment: str
    heading: str
    words: str
    find: Callable[[Published], pd.DataFrame]
    more_is_better: bool = False


def _with_halves(table: pd.DataFrame, name: str) -> pd.DataFrame:
    half = table[f"{name}_half"]
    return pd.DataFrame(
        {"system": table["system"], "value": table[name], "low": table[name] - half,
         "high": table[name] + half, "half": half}
    )  # fmt: skip


def _knee(published: Published) -> pd.DataFrame:
    found = steady.knees(published.csv())
    return _with_halves(found.rename(columns={"± 95 %": "operations/s_half"}), "operations/s")


def _one(published: Published) -> pd.DataFrame:
    table = published.csv()
    return _with_halves(table[table["nodes"] == 3], "p50")


def _downtime(published: Published) -> pd.DataFrame:
    table = published.csv()
    return _with_halves(table[table["event"] == "leader crashes"], "downtime_ms")


def _partition(published: Published) -> pd.DataFrame:
    table = published.csv()
    is_this = (table["scenario"] == "constrained") & (table["timeout_ms"] == CONSTRAINED_MS)
    return _with_halves(table[is_this], "downtime_ms")


def _reads(published: Published) -> pd.DataFrame:
    table = published.csv()
    only_reads = (table["share"] == 1) & (table["skew"] == 0)
    # Others have one way only, which has no name.
    default = table["way"].isna() | (table["way"] == "leader")
    return _with_halves(table[only_reads & default], "achieved")


def _processor(published: Published) -> pd.DataFrame:
    table = published.csv()
    return _with_halves(table[table["load"] == "closed"], "cpu_us")


def _bench(load: str, name: str, scale: float) -> Callable[[Published], pd.DataFrame]:
    def find(published: Published) -> pd.DataFrame:
        table = published.csv("puts")
        table = table[table["load"] == load]
        ends = {"value": name, "low": f"{name}_low", "high": f"{name}_high"}
        return pd.DataFrame(
            {"system": table["system"], **{to: table[of] * scale for to, of in ends.items()}}
        )

    return find


MEASURES = (
    Measure("steady", "puts/s at the knee", "Throughput at the knee, open loop", _knee, True),
    Measure("sizes", "p50 of one, ms", "Median latency of one operation at a time", _one),
    Measure("failover", "leader crashes, ms", "Downtime when the leader crashes", _downtime),
    Measure(
        "downtime", "constrained partition, ms",
        f"Downtime in a constrained partition, election timeout {CONSTRAINED_MS} ms", _partition,
    ),
    Measure("mix", "reads/s", "Linearizable reads a second, closed loop", _reads, True),
    Measure("cost", "processor µs/op", "Processor time of an operation", _processor),
    Measure(
        "bench", "bench: puts/s, 64 clients", "Puts a second of 64 clients without Mininet",
        _bench("puts-64", "throughput", 1), True,
    ),
    Measure(
        "bench", "bench: p50 of one, ms", "Median latency of one client without Mininet",
        _bench("puts-1", "p50_us", 1e-3),
    ),
    Measure(
        "bench", "bench: reads/s, 64 clients", "Reads a second of 64 clients without Mininet",
        _bench("reads-64", "throughput", 1), True,
    ),
)  # fmt: skip


def measured(published: dict[str, Published]) -> list[tuple[Measure, pd.DataFrame]]:
    """The measures of which there are results in their present form, and what was measured."""
    found = []
    for measure in MEASURES:
        there = published.get(measure.experiment)
        if there and not ENTRIES[measure.experiment].is_of_another_form(there):
            rows = measure.find(there).dropna(subset="value")
            found.append((measure, rows.reset_index(drop=True)))
    return found


def table(found: list[tuple[Measure, pd.DataFrame]]) -> pd.DataFrame:
    """A row for each system, a column for each measure; the first of each is bold."""
    names = {name for _, rows in found for name in rows["system"]}
    order = [*(name for name in SYSTEMS if name in names), *sorted(names - set(SYSTEMS))]
    shown = pd.DataFrame({"system": [label(name) for name in order]}, index=order)
    for measure, rows in found:
        first = ranked(measure, rows)["system"].iloc[0]
        cells = {}
        for row in rows.to_dict("records"):
            text = (
                with_half(row["value"], row["half"])
                if "half" in row
                else with_range(row["value"], row["low"], row["high"])
            )
            cells[row["system"]] = f"**{text}**" if row["system"] == first else text
        shown[measure.heading] = pd.Series(cells).reindex(order).fillna("–")
    return shown.reset_index(drop=True)


def ranked(measure: Measure, rows: pd.DataFrame) -> pd.DataFrame:
    """The systems, the best first."""
    return rows.sort_values("value", ascending=not measure.more_is_better, ignore_index=True)


def sentence(measure: Measure, rows: pd.DataFrame) -> str:
    """Who is first, where Loggos stands, and whether its interval meets that of who is beside it:
    of the second where it is first, else of the first."""
    # Other deployments of Loggos are in the table, and no rivals of it.
    others = (rows["system"] == OURS) | ~rows["system"].str.startswith(f"{OURS}-")
    order = ranked(measure, rows[others])
    begin = f"{measure.words} (`{measure.experiment}`): "
    place = order.index[order["system"] == OURS]
    if len(place) == 0 or len(order) < 2:
        return f"{begin}nothing to compare."
    at = int(place[0])
    other = order.iloc[1 if at == 0 else 0]
    ours = order.iloc[at]
    ratio = max(ours["value"], other["value"]) / min(ours["value"], other["value"])
    # Of few repetitions intervals are wide; two that overlap tell no difference for certain.
    caution = ""
    if pd.isna(ours["low"]) or pd.isna(other["low"]):
        caution = ", of too few repetitions for an interval"
    elif ours["low"] <= other["high"] and other["low"] <= ours["high"]:
        caution = "; their intervals overlap"
    name = label(other["system"])
    if at == 0:
        return f"{begin}**Loggos is first**, {ratio:.2g} times better than {name}{caution}."
    return (
        f"{begin}Loggos is **not** first but number {at + 1} of {len(order)}; {name} is "
        f"{ratio:.2g} times better{caution}.{_among_alike(order)}"
    )


def _among_alike(order: pd.DataFrame) -> str:
    """Where Loggos stands among those that replicate and sync what they acknowledge, where others
    are in the way."""
    alike = [
        it for it in order["system"] if it != SINGLE and (it not in SYSTEMS or SYSTEMS[it].durable)
    ]
    place = alike.index(OURS)
    if len(alike) in (1, len(order)):
        return ""
    behind = f", behind {label(alike[place - 1])}" if place else ""
    return f" Of the {len(alike)} that replicate and sync: number {place + 1}{behind}."
