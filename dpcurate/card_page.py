"""The card of a dataset as a page: its text and its pictures in one HTML file, which loads nothing from anywhere."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

STYLE = """
:root { --ink: #1c2530; --soft: #5b6776; --line: #dfe4ea; --back: #f6f7f9; --card: #ffffff; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 2.2rem 1.1rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 0 0 .6rem; }
p { margin: .45rem 0; max-width: 78ch; overflow-wrap: anywhere; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1.2rem 1.3rem;
  margin: 1.1rem 0; }
figure { margin: .8rem 0 0; }
img { max-width: 100%; height: auto; display: block; }
figcaption { color: var(--soft); font-size: .9rem; max-width: 90ch; }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
pre { background: #f1f3f6; border-radius: 8px; padding: .8rem 1rem; overflow-x: auto; font-size: .85rem; }
"""


@dataclass(frozen=True)
class Picture:
    """A PNG picture and what it shows."""

    png: bytes
    shows: str


def page(markdown: str, pictures: Mapping[str, Sequence[Picture]]) -> str:
    """The HTML document of a card, the pictures of each heading after its text.

    Knows what cards are written in: headings, paragraphs, tables, fenced code and `code`. All text is escaped.
    """
    head, *sections = re.split(r"^## ", markdown, flags=re.MULTILINE)
    title = head.partition("\n")[0].removeprefix("# ")
    parts = [f"<h1>{escape(title)}</h1>", _blocks(head.partition("\n")[2])]
    for text in sections:
        heading, _, body = text.partition("\n")
        figures = "\n".join(_figure(picture) for picture in pictures.get(heading.strip(), ()))
        parts.append(f"<section>\n<h2>{escape(heading)}</h2>\n{_blocks(body)}\n{figures}\n</section>")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def _blocks(markdown: str) -> str:
    """Paragraphs, tables and code of Markdown as HTML."""
    found = re.findall(r"```\w*\n([\s\S]*?)```|((?:^\|.*\n?)+)|((?:^(?!\||```).+\n?)+)", markdown, re.MULTILINE)
    html = []
    for code, table, text in found:
        if code:
            html.append(f"<pre>{escape(code)}</pre>")
        elif table:
            html.append(_table(table))
        elif text.strip():
            html.append(f"<p>{_inline(text.strip())}</p>")
    return "\n".join(html)


def _table(markdown: str) -> str:
    rows = [re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|")) for line in markdown.splitlines()]
    lines = []
    for number, row in enumerate(rows):
        if number == 1:
            continue
        tag = "td" if number else "th"
        cells = (_inline(cell.strip().replace("\\|", "|")) for cell in row)
        lines.append("<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>")
    return '<div class="scroll"><table>\n' + "\n".join(lines) + "\n</table></div>"


def _inline(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    return (
        f'<figure><img alt="{escape(picture.shows)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(picture.shows)}</figcaption></figure>"
    )
