"""Documents from lines and from rows: WikiText's articles, and the text columns of tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from bertexp.data.config import DatasetConfig
from bertexp.data.corpora import Document
from bertexp.data.corpora.columnar import Columns, Row
from bertexp.validation import UserError

_HEADING = re.compile(r"\s?(?P<marks>=(?: =)*) (?P<title>[^=\s](?:.*[^=\s])?) (?P=marks)\s*")
_UNFINISHED = re.compile(r".* \. .*\w\s*")


def is_title(line: str) -> bool:
    heading = _HEADING.fullmatch(line)
    return heading is not None and heading["marks"] == "="


def wikitext_documents(lines: Iterable[str], name: str) -> Iterator[Document]:
    """Yield each article as a document named by its title, each line as a paragraph.

    Section headings are dropped; text before the first title is named ``name``. A broken formula
    can look like a title, but then the line right above is prose that stops in mid-sentence, and
    no article ends like that.
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


def wanted(config: DatasetConfig) -> Columns:
    """Return the columns that a document's text is taken from."""
    return [(name, "dataset.column") for name in config.columns]


def row_paragraphs(row: Row, config: DatasetConfig, place: str) -> list[str]:
    """Return the lines of a row's texts, column by column; a column may hold a list of texts.

    Raises:
        UserError: a value is not text.
    """
    found = []
    for column, value in zip(config.columns, row, strict=True):
        for text in value if isinstance(value, list) else [value]:
            if text is None:
                continue
            if not isinstance(text, str):
                kind = type(text).__name__
                raise UserError(f"dataset.column={column}: {place} has {kind} there, not text.")
            found += text_lines(_well_formed(text, place, config.errors))
    return found


def text_lines(text: str) -> list[str]:
    return [line for line in re.split(r"\r\n|\r|\n", text) if line.strip()]


def _well_formed(text: str, place: str, errors: str) -> str:
    r"""Return ``text`` without lone surrogates (``\ud800``): JSON allows them, UTF-8 does not."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        if errors == "strict":
            raise UserError(
                f"dataset.files: {place} has half a surrogate pair;"
                " repair it, or set dataset.errors=replace."
            ) from error
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
