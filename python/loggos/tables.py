"""Tables as people read them."""

from pathlib import Path

import pandas as pd


def markdown(frame: pd.DataFrame, digits: int = 1) -> str:
    """The frame as a Markdown table: numbers to the right, what is not there as a dash."""

    def show(value: object) -> str:
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, float):
            return "–" if pd.isna(value) else f"{value:,.{digits}f}"
        return f"{value:,}" if isinstance(value, int) else str(value)

    numeric = [pd.api.types.is_numeric_dtype(frame[name]) for name in frame.columns]
    lines = [
        "| " + " | ".join(str(name) for name in frame.columns) + " |",
        "| " + " | ".join("---:" if number else ":---" for number in numeric) + " |",
    ]
    for row in frame.astype(object).itertuples(index=False):
        lines.append("| " + " | ".join(show(value) for value in row) + " |")
    return "\n".join(lines)


def kept(frame: pd.DataFrame, folder: Path, name: str) -> pd.DataFrame:
    """Writes the table as `NAME.csv`, and gives back what its readers will find there: what is
    drawn of that is the figure that a report draws again of the published file."""
    path = folder / f"{name}.csv"
    frame.to_csv(path, index=False, float_format="%.6g")
    return pd.read_csv(path)


def with_half(mean: float, half: float) -> str:
    """A mean and half its interval, with as many digits as make sense."""
    if pd.isna(mean):
        return "–"
    digits = _digits(mean)
    text = f"{mean:,.{digits}f}"
    return text if pd.isna(half) else f"{text} ± {half:,.{digits}f}"


def with_range(middle: float, low: float, high: float) -> str:
    """The middle of the repeats, and from where to where they go."""
    if pd.isna(middle):
        return "–"
    digits = _digits(middle)
    text = f"{middle:,.{digits}f}"
    return text if pd.isna(low) else f"{text} ({low:,.{digits}f}–{high:,.{digits}f})"


def _digits(number: float) -> int:
    return 0 if abs(number) >= 100 else 1 if abs(number) >= 10 else 2
