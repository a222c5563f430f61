"""Whether figures can be drawn again of what is published, for the tests of the experiments."""

from pathlib import Path

from loggos import analyse, runs
from loggos.report import __main__ as command


def same(run: Path, name: str, results: Path, *figures: str) -> None:
    """Publishes a run that was analysed, takes the figures and all else that is no table or
    parameter away, and draws them again: they must be the ones of the analysis to the byte."""
    published = analyse.publish(runs.load(run), results / name)
    for path in [*published.glob("*.svg"), *published.glob("*.png")]:
        path.unlink()
    drawn = {path.name: path for path in command.draw(results)}
    for figure in figures:
        for suffix in ("svg", "png"):
            first = (run / "figures" / f"{figure}.{suffix}").read_bytes()
            assert drawn[f"{figure}.{suffix}"].read_bytes() == first, figure
