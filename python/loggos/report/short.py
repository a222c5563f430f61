"""Short tables: a measure and its interval in one column, under a heading with its unit."""

import pandas as pd

from loggos.bench.systems import SYSTEMS as MEASURED
from loggos.plots import SYSTEMS
from loggos.tables import with_half, with_range

ROWS_MAX = 24


def label(system: str) -> str:
    """A system's name for the reader."""
    if system in SYSTEMS:
        return SYSTEMS[system].label
    return MEASURED[system].label if system in MEASURED else system


def columns(frame: pd.DataFrame, headings: dict[str, str]) -> pd.DataFrame:
    """These columns under these headings. Where there is half an interval (`NAME_half`,
    `NAME_ci95`) or a range (`NAME_low`, `NAME_high`), it stands behind the number."""
    shown = pd.DataFrame(index=frame.index)
    for name, heading in headings.items():
        half = next((it for it in (f"{name}_half", f"{name}_ci95") if it in frame), None)
        if name == "system":
            shown[heading] = frame[name].map(label)
        elif half:
            pairs = zip(frame[name], frame[half], strict=True)
            shown[heading] = [with_half(mean, width) for mean, width in pairs]
        elif f"{name}_low" in frame:
            rows = zip(frame[name], frame[f"{name}_low"], frame[f"{name}_high"], strict=True)
            shown[heading] = [with_range(*row) for row in rows]
        else:
            shown[heading] = frame[name]
    return shown.reset_index(drop=True)


def everything(frame: pd.DataFrame) -> pd.DataFrame:
    """All columns, each interval with what it is of."""
    ends = ("_half", "_ci95", "_low", "_high")
    return columns(frame, {name: name for name in frame.columns if not name.endswith(ends)})
