"""Damage to the files of a node that is down: what a bad disk does to what was once durable.

Only where later records prove it: in the first half of what the log holds. A log whose last
records are gone without a trace looks like one that never had them, and no node can tell. And only
to one node, which the cluster can lose.
"""

from dataclasses import dataclass
from pathlib import Path

# Less than this in the log, and there may be too little behind the damage to prove it.
LOG_SIZE_MIN = 256 * 1024
SECTOR = 512
HEADER_SIZE = 112
WAYS = ("bits", "sector", "sectors", "header", "segment")


@dataclass(frozen=True)
class Damage:
    """What was done, where, and whether it is sure to be found: a bit may be one of the zeros
    between records, and a file that is gone one that a truncation was about to remove."""

    words: str
    path: Path
    is_sure: bool


def damage(data_dir, dice, ways=WAYS):
    """Damages one place of a log in one of these ways; returns what was done, `None` if the log is
    too small."""
    segments = sorted((data_dir / "wal").glob("*.seg"))
    sizes = [used(path) for path in segments]
    if sum(sizes) < LOG_SIZE_MIN:
        return None
    way = dice.choice(ways)
    # Whole files and headers are lost only where others stand before and behind them.
    middle = [path for path, size in zip(segments, sizes, strict=True) if size][1:-1]
    if way == "segment" and middle:
        path = dice.choice(middle)
        path.unlink()
        return Damage(f"{path.name} is gone", path, False)
    if way == "header" and middle:
        path, offset, size = dice.choice(middle), 0, HEADER_SIZE
    else:
        at = dice.randrange(SECTOR, sum(sizes) // 2)
        index = next(i for i in range(len(sizes)) if at < sum(sizes[: i + 1]))
        path, offset = segments[index], at - sum(sizes[:index])
        size = {"bits": 1, "sector": SECTOR}.get(way, 8 * SECTOR)
    if way == "bits":
        flip(path, offset, 1 << dice.randrange(8))
        return Damage(f"a bit of {path.name} at {offset}", path, False)
    offset -= offset % SECTOR
    zero(path, offset, size)
    return Damage(f"{size} bytes of {path.name} at {offset} are zeros", path, True)


def used(path):
    """How many bytes of a segment are written: behind them are only zeros."""
    data = path.read_bytes()
    return len(data.rstrip(b"\0"))


def flip(path, offset, bits):
    """Flips bits of one byte."""
    with open(path, "r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ bits]))


def zero(path, offset, size):
    """Writes zeros."""
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(bytes(size))
