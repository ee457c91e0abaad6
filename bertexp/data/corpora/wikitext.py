"""WikiText's mark-up: headings between equals signs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from bertexp.data.corpora import Document

_HEADING = re.compile(r"\s?(?P<marks>=(?: =)*) (?P<title>[^=\s](?:.*[^=\s])?) (?P=marks)\s*")
_UNFINISHED = re.compile(r".* \. .*\w\s*")


def is_title(line: str) -> bool:
    """Say whether a line has the form of an article's title, `` = Title = ``."""
    heading = _HEADING.fullmatch(line)
    return heading is not None and heading["marks"] == "="


def wikitext_documents(lines: Iterable[str], name: str) -> Iterator[Document]:
    """Yield an article a document, its title as the name, a line a paragraph.

    Headings of sections are dropped. A broken formula can have the form of a title, but
    then the line right above is prose that stops in mid-sentence, which no article ends with.

    Args:
        lines: the lines of a file, with or without the blank ones around headings.
        name: what to call text before the first title.
    """
    paragraphs: list[str] = []
    above = ""
    for line in lines:
        heading = _HEADING.fullmatch(line)
        if heading and heading["marks"] != "=":
            pass
        elif heading and not _UNFINISHED.fullmatch(above):
            yield Document(name, paragraphs)
            name, paragraphs = heading["title"], []
        elif line.strip():
            paragraphs.append(line)
        above = "" if heading else line
    yield Document(name, paragraphs)
