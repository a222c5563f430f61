"""All experiments of the report, by chapter, in the order in which they are told."""

from loggos.report import faults, links, speed, state
from loggos.report.entry import Entry

CHAPTERS: dict[str, tuple[Entry, ...]] = {
    "Speed and its cost": speed.ENTRIES,
    "Faults": faults.ENTRIES,
    "Links": links.ENTRIES,
    "State and members": state.ENTRIES,
}
ENTRIES = {entry.name: entry for entries in CHAPTERS.values() for entry in entries}
