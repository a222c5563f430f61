"""Tables as people read them."""

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
