"""The page of a card shows what its Markdown says: paragraphs, tables and code, all text escaped."""

import re
from xml.etree import ElementTree

from dpcurate.card_page import Picture, page

MARKDOWN = """# demo@1

Two patterns,
of one scan.

## Phases

Before the table.

| phase | note |
| --- | --- |
| Ni | a \\| b |
| <Fe> | `code` |
After the table.

Once more.

```bash
dpcurate index scan.hspy

| no table |
```

## Empty
"""


def parsed(html):
    """The body of a page; what is not well-formed but for the pictures, which HTML does not close, is an error."""
    body = html[html.index("<body>") : html.index("</html>")]
    return ElementTree.fromstring(re.sub(r"(<img[^>]*)>", r"\1/>", body))


def texts(parent, tag):
    return ["".join(element.itertext()) for element in parent.iter(tag)]


def test_paragraphs_tables_and_code_are_each_shown_as_what_they_are():
    body = parsed(page(MARKDOWN, {}))
    assert texts(body, "h1") == ["demo@1"]
    assert texts(body, "h2") == ["Phases", "Empty"]
    assert texts(body, "p") == ["Two patterns,\nof one scan.", "Before the table.", "After the table.", "Once more."]
    assert texts(body, "th") == ["phase", "note"]
    assert texts(body, "td") == ["Ni", "a | b", "<Fe>", "code"]
    assert texts(body, "code") == ["code"]
    assert texts(body, "pre") == ["dpcurate index scan.hspy\n\n| no table |\n"]


def test_pictures_stand_in_the_section_they_belong_to():
    body = parsed(page(MARKDOWN, {"Empty": [Picture(b"png", "5 < 6")]}))
    first, second = body.iter("section")
    assert not list(first.iter("img"))
    assert texts(second, "figcaption") == ["5 < 6"]
