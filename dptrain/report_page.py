"""The look of a report: one HTML file with its pictures inside, which loads nothing from anywhere."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from dptrain.checkpoint import write_aside

STYLE = """
:root { --ink: #1c2530; --soft: #5b6776; --line: #dfe4ea; --back: #f6f7f9; --card: #ffffff; --accent: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 2.2rem 1.1rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 0 0 .6rem; }
p { margin: .45rem 0; max-width: 74ch; }
.under { color: var(--soft); margin-bottom: 1.4rem; overflow-wrap: anywhere; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1.2rem 1.3rem;
  margin: 1.1rem 0; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 235px), 360px)); gap: 1rem;
  margin: .8rem 0 .3rem; align-items: start; }
.figures.wide { grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); }
.figures img { width: 100%; height: auto; display: block; }
.caption { color: var(--soft); font-size: .9rem; max-width: 90ch; overflow-wrap: anywhere; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(210px, 1fr)); gap: 1rem; margin: 1.1rem 0; }
.card { background: var(--card); border: 1px solid var(--line); border-top: 4px solid var(--accent);
  border-radius: 10px; padding: .8rem 1rem; }
.card b { display: block; font-size: 1.9rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.card span { color: var(--soft); font-size: .9rem; }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .38rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
td.text, th.text { text-align: left; white-space: normal; min-width: 7rem; }
td.long { white-space: normal; overflow-wrap: anywhere; text-align: left; }
tr.new td { border-top: 2px solid #c4ccd6; }
pre { background: #f1f3f6; border-radius: 8px; padding: .8rem 1rem; overflow-x: auto; font-size: .85rem; }
"""


@dataclass(frozen=True)
class Picture:
    """A PNG file and what it shows, for those who do not see it."""

    path: Path
    shows: str


def page(title: str, *, under: str, parts: Iterable[str]) -> str:
    """A whole HTML document of ``parts``, already HTML; ``title`` and ``under`` are plain text."""
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{escape(title)}</h1>\n"
        f'<p class="under">{escape(under)}</p>\n{body}\n</main>\n</body>\n</html>\n'
    )


def section(title: str, *parts: str) -> str:
    """A section with a heading (plain text) and ``parts`` (HTML)."""
    return f"<section>\n<h2>{escape(title)}</h2>\n" + "\n".join(part for part in parts if part) + "\n</section>"


def sentences(*texts: str) -> str:
    """Paragraphs of plain text; empty ones are left out."""
    return "\n".join(f"<p>{escape(text)}</p>" for text in texts if text)


def caption(text: str) -> str:
    """What figures or a table show, in plain text."""
    return f'<p class="caption">{escape(text)}</p>'


def figures(pictures: Sequence[Picture], *, wide: bool = False) -> str:
    """Pictures side by side, or below each other where the screen is narrow; embedded."""
    images = "\n".join(
        f'<img alt="{escape(picture.shows)}" src="data:image/png;base64,'
        f'{base64.b64encode(picture.path.read_bytes()).decode()}">'
        for picture in pictures
    )
    kind = "figures wide" if wide else "figures"
    return f'<div class="{kind}">\n{images}\n</div>'


def cards(values: Sequence[tuple[str, str]]) -> str:
    """Large numbers, each with what it says: pairs (number, words) of plain text."""
    items = "\n".join(
        f'<div class="card"><b>{escape(number)}</b><span>{escape(words)}</span></div>' for number, words in values
    )
    return f'<div class="cards">\n{items}\n</div>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, n_text: int = 1, groups: bool = False) -> str:
    """A table of plain text, its first ``n_text`` columns to the left; with ``groups`` a line where the first changes.

    Scrolls by itself where the screen is narrow.
    """
    lines = ["<tr>" + "".join(_cell("th", text, is_text=i < n_text) for i, text in enumerate(head)) + "</tr>"]
    before = ""
    for row in rows:
        new = groups and before not in ("", row[0])
        cells = "".join(_cell("td", text, is_text=i < n_text) for i, text in enumerate(row))
        lines.append(('<tr class="new">' if new else "<tr>") + cells + "</tr>")
        before = row[0]
    return '<div class="scroll"><table>\n' + "\n".join(lines) + "\n</table></div>"


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """A table of what and its value, long values broken over lines."""
    lines = [f'<tr>{_cell("td", name, is_text=True)}<td class="long">{escape(value)}</td></tr>' for name, value in rows]
    return '<div class="scroll"><table>\n' + "\n".join(lines) + "\n</table></div>"


def commands(lines: Sequence[str]) -> str:
    """Command lines to be typed again."""
    return f"<pre>{escape(chr(10).join(lines))}</pre>"


def write_page(path: Path, html: str) -> Path:
    """Write a page, whole or not at all; InputError when it cannot be written."""
    write_aside(path, html.encode())
    return path


def _cell(tag: str, text: str, *, is_text: bool) -> str:
    opening = f'<{tag} class="text">' if is_text else f"<{tag}>"
    return f"{opening}{escape(text)}</{tag}>"
