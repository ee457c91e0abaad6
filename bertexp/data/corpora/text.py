"""A user's own files: text in several formats, or tables with a column of text."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path

from bertexp.data.cache import fingerprint
from bertexp.data.config import TABLES, DatasetConfig
from bertexp.data.corpora import CORPORA, Corpus, Document, ReadDocuments, opening
from bertexp.data.corpora.columnar import Columns, Row
from bertexp.data.corpora.finding import find
from bertexp.data.corpora.formats import HEADING, detect, parts
from bertexp.data.corpora.opening import Part
from bertexp.data.corpora.tables import read_rows
from bertexp.validation import UserError

VERSION = 2

log = logging.getLogger(__name__)

# A line of WikiText that stops in mid-sentence.
_UNFINISHED = re.compile(r".* \. .*\w\s*")
READS = ("dataset.files", "dataset.format", "dataset.column", "dataset.errors")


@CORPORA.register("text", reads=READS)
@dataclass
class TextCorpus(Corpus):
    """The documents of ``dataset.files``.

    ``dataset.format`` sets how files are read; ``auto`` decides by the first 64 KiB of each:

    - ``plain``: a line is a paragraph, a blank line separates documents;
    - ``wrapped``: lines are joined; a blank line separates paragraphs, two or more separate
      documents (books, mail and other text wrapped to a width);
    - ``lines``: a line is a document;
    - ``wikitext``: `` = Title = `` begins a document, a line is a paragraph;
    - ``csv``, ``tsv``, ``json``, ``jsonl``, ``parquet``, ``arrow``: a row is a document with its
      text in ``dataset.column``, each line of which is a paragraph.

    The end of a file always ends a document.

    Raises:
        UserError: a file does not exist, cannot be read or does not have the given format.
    """

    config: DatasetConfig

    def __post_init__(self) -> None:
        self._files = find(self.config.files)

    def fingerprint(self) -> str:
        config = self.config
        identify = opening.state if config.streaming else opening.digest
        contents = [(path.name, identify(path)) for path in self._files]
        return fingerprint([VERSION, config.format, config.column, config.errors, contents])

    def described(self) -> str:
        kinds = Counter(kind for _, kind in self._formats)
        several = (f"{count} {kind}" for kind, count in kinds.items())
        return ", ".join(kinds if len(kinds) == 1 else several)

    def shards(self) -> Sequence[ReadDocuments]:
        found = []
        for path, kind in self._formats:
            # Finding the parts of a text file takes reading all of it.
            whole = self.config.streaming and kind != "parquet"
            pieces = [Part(path)] if whole else parts(path, kind)
            found += [partial(_READERS[kind], piece, self.config) for piece in pieces]
        return found

    @cached_property
    def _formats(self) -> list[tuple[Path, str]]:
        config, alone = self.config, len(self._files) == 1
        if config.format != "auto":
            return [(path, config.format) for path in self._files]
        found = [(path, detect(path, config.columns, alone)) for path in self._files]
        if by_line := [path for path, kind in found if kind == "lines"]:
            log.info(
                "%s: has no blank lines, so a line is a document; with dataset.format=plain it is "
                "a paragraph of one document.",
                by_line[0] if len(by_line) == 1 else f"{len(by_line)} files",
            )
        return found


def _read_plain(part: Part, config: DatasetConfig) -> Iterator[Document]:
    paragraphs: list[str] = []
    lines = chain(opening.lines(part, config.errors), [""])
    for number, line in enumerate(lines, start=part.first):
        if line.strip():
            paragraphs.append(line)
        # A line that was cut ends a document, to bound memory.
        if paragraphs and (not line.strip() or len(line) == opening.LONGEST_LINE):
            start = number - len(paragraphs) + bool(line.strip())
            yield Document(f"{part.path.name}:{start}", paragraphs)
            paragraphs = []


def _read_wrapped(part: Part, config: DatasetConfig) -> Iterator[Document]:
    paragraphs: list[str] = []
    block: list[str] = []
    blank_lines = 0
    start = part.first
    for number, line in enumerate(opening.lines(part, config.errors), start=part.first):
        if not line.strip():
            blank_lines += 1
            continue
        if blank_lines and block:
            paragraphs.append(" ".join(block))
            block = []
        if blank_lines > 1:
            yield Document(f"{part.path.name}:{start}", paragraphs)
            paragraphs, start = [], number
        blank_lines = 0
        block.append(line.strip())
    yield Document(f"{part.path.name}:{start}", [*paragraphs, " ".join(block)])


def _read_lines(part: Part, config: DatasetConfig) -> Iterator[Document]:
    for number, line in enumerate(opening.lines(part, config.errors), start=part.first):
        yield Document(f"{part.path.name}:{number}", [line])


def _read_wikitext(part: Part, config: DatasetConfig) -> Iterator[Document]:
    yield from wikitext_documents(opening.lines(part, config.errors), name=part.path.name)


def _read_table(part: Part, config: DatasetConfig, kind: str) -> Iterator[Document]:
    for number, place, row in read_rows(part, kind, wanted(config), config.errors):
        yield Document(f"{part.path.name}:{number}", row_paragraphs(row, config, place))


def wikitext_documents(lines: Iterable[str], name: str) -> Iterator[Document]:
    """Yield each article as a document named by its title, each line as a paragraph.

    Section headings are dropped; text before the first title is named ``name``. A broken formula
    can look like a title, but then the line right above is prose that stops in mid-sentence, and
    no article ends like that.
    """
    paragraphs: list[str] = []
    above = ""
    for line in lines:
        heading = HEADING.fullmatch(line)
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
    """Return the lines of a row's texts, column by column; a column may hold a list of texts."""
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


_READERS: dict[str, Callable[[Part, DatasetConfig], Iterator[Document]]] = {
    "plain": _read_plain,
    "wrapped": _read_wrapped,
    "lines": _read_lines,
    "wikitext": _read_wikitext,
    **{kind: partial(_read_table, kind=kind) for kind in TABLES},
}
