"""The same page as one file of HTML that needs no other, with a table of contents."""

import base64
import html
import re
from pathlib import Path

import mistune

HEADING = re.compile(r"<h([23])>(.*?)</h\1>", re.DOTALL)
IMAGE = re.compile(r'<img src="([^":]+\.svg)"')
TAG = re.compile(r"<[^>]+>")

STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
img { display: block; max-width: 100%; margin: 1rem auto; background: white; border-radius: 4px; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.6rem; border-bottom: 1px solid var(--line); }
thead th { border-bottom: 2px solid; }
h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); }
code { font-size: 0.9em; }
pre { overflow-x: auto; }
nav ul { columns: 2; padding-left: 1.2rem; }
nav .chapter { font-weight: bold; list-style: none; margin-left: -1.2rem; }
@media print {
  body { max-width: none; margin: 0; font-size: 10pt; }
  nav { display: none; }
  h2 { break-before: page; }
  h3, thead { break-after: avoid; }
  img, tr { break-inside: avoid; }
  .table { overflow: visible; }
  table { font-size: 7pt; }
}
"""


def page(markdown: str, folder: Path) -> str:
    """The page with all figures, which lie below `folder`."""
    body = mistune.create_markdown(plugins=["table"])(markdown)
    body = IMAGE.sub(lambda found: f'<img loading="lazy" src="{data(folder / found[1])}"', body)
    body = body.replace("<table>", '<div class="table"><table>').replace(
        "</table>", "</table></div>"
    )
    title = TAG.sub("", re.search(r"<h1>(.*?)</h1>", body)[1])
    body, contents = with_contents(body)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>{title}</title>\n'
        f"<style>{STYLE}</style>\n{body.replace('</h1>', f'</h1>{contents}', 1)}</html>\n"
    )


def with_contents(body: str) -> tuple[str, str]:
    """The body with a place to jump to at each heading, and the list of these."""
    lines = []

    def anchor(found: re.Match) -> str:
        level, inner = found[1], found[2]
        words = TAG.sub("", inner)
        name = re.sub(r"[^a-z0-9]+", "-", html.unescape(words).lower()).strip("-")
        kind = ' class="chapter"' if level == "2" else ""
        lines.append(f'<li{kind}><a href="#{name}">{words}</a></li>')
        return f'<h{level} id="{name}">{inner}</h{level}>'

    body = HEADING.sub(anchor, body)
    return body, "\n<nav><ul>\n" + "\n".join(lines) + "\n</ul></nav>\n"


def data(path: Path) -> str:
    """A figure as an address that holds it."""
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()
