"""`python -m loggos.report [RESULTS]`: draws what can be drawn, and writes the two pages."""

import argparse
import sys
from pathlib import Path

import matplotlib

from loggos import plots
from loggos.report import html_page, page
from loggos.report.entries import ENTRIES

RESULTS = Path(__file__).resolve().parents[3] / "results"


def draw(results: Path) -> list[Path]:
    """Makes anew, from the tables alone, the figures that can be; returns where they are."""
    paths = []
    for name, published in page.published(results).items():
        entry = ENTRIES[name]
        if entry.is_of_another_form(published):
            continue
        for figure, function in entry.drawn(published).items():
            paths += plots.save(function(published), published.path, figure)
    return paths


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loggos.report", description=__doc__)
    parser.add_argument("results", type=Path, nargs="?", default=RESULTS, help="[results]")
    options = parser.parse_args(arguments)
    matplotlib.use("Agg")
    if not options.results.is_dir():
        print(f"loggos.report: {options.results} is no folder", file=sys.stderr)
        return 1
    drawn = draw(options.results)
    text = page.page(options.results)
    (options.results / "README.md").write_text(text)
    whole = html_page.page(text, options.results)
    (options.results / "report.html").write_text(whole)
    print(f"{len(drawn)} figures drawn from tables")
    print(f"{options.results / 'README.md'}: {len(text):,} characters")
    print(f"{options.results / 'report.html'}: {len(whole) / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
