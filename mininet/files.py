"""How a run's files are written."""

import json


def write_json(path, value):
    """Writes a value for people and programs."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def note(path, line):
    """One more line of JSON."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
