"""A user's own files: plain or wrapped text, WikiText, JSON lines or Parquet."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from pathlib import Path

from bertexp.cache import fingerprint
from bertexp.corpora import CORPORA, Corpus, Document, ReadDocuments, files
from bertexp.corpora.config import DatasetConfig
from bertexp.corpora.files import Part
from bertexp.corpora.parts import parts
from bertexp.corpora.tables import read_jsonl, read_parquet
from bertexp.corpora.wikitext import is_title, wikitext_documents

VERSION = 1
# Prose wrapped by an editor: lines of about this many characters, most cut in mid-sentence.
WRAPPED_WIDTHS = range(40, 101)

_SENTENCE_END = re.compile(r"[.!?:;…。！？][\"'”’»)\]]*$")


READS = ("dataset.files", "dataset.format", "dataset.column", "dataset.errors")


@CORPORA.register("text", reads=READS)
@dataclass
class TextCorpus(Corpus):
    """The documents of ``dataset.files``.

    ``dataset.format`` says how a file is read; ``auto`` looks at the first 64 KiB of each:

    - ``plain``: a line is a paragraph, a blank line parts documents;
    - ``wrapped``: lines are joined to paragraphs at blank lines, two or more blank lines
      part documents (books, mail and whatever else is filled to a width);
    - ``wikitext``: `` = Title = `` opens a document, a line is a paragraph;
    - ``jsonl``, ``parquet``: a row is a document, its text in ``dataset.column``, and each
      line of that text a paragraph.

    Wherever a file ends, its last document ends too.

    Raises:
        UserError: a file that is not there, cannot be read or is not what its format says.
    """

    config: DatasetConfig

    def __post_init__(self) -> None:
        self._files = files.find(self.config.files)

    def fingerprint(self) -> str:
        """Return a value for the files' names and contents and the way they are read.

        Of files that are streamed the time of change stands for the content.
        """
        config = self.config
        identify = files.state if config.streaming else files.digest
        contents = [(path.name, identify(path)) for path in self._files]
        return fingerprint([VERSION, config.format, config.column, config.errors, contents])

    def documents(self) -> Iterator[Document]:
        """Yield the documents of each file in turn; memory holds one document at a time."""
        return chain.from_iterable(read() for read in self.shards())

    def shards(self) -> Sequence[ReadDocuments]:
        """Return what reads the files, large ones in parts."""
        found = []
        for path in self._files:
            kind = self.config.format
            kind = detect(path) if kind == "auto" else kind
            # To find the parts of a text file is to read it.
            whole = self.config.streaming and kind != "parquet"
            pieces = [Part(path)] if whole else parts(path, kind)
            found += [partial(_READERS[kind], piece, self.config) for piece in pieces]
        return found


def detect(path: Path) -> str:
    """Return the format of a file, judged by its name and its first 64 KiB."""
    head = files.head(path)
    if head.startswith(b"PAR1"):
        return "parquet"
    if {".jsonl", ".ndjson"}.intersection(path.suffixes):
        return "jsonl"
    lines = re.split(r"\r\n|\r|\n", head.decode("utf-8-sig", "replace"))
    first = next((line for line in lines if line.strip()), "")
    if is_title(first):
        return "wikitext"
    if first.startswith('{"'):
        return "jsonl"
    # The last line may be cut off by the limit.
    return "wrapped" if _is_wrapped(lines[:-1]) else "plain"


def _is_wrapped(lines: list[str]) -> bool:
    """Say whether lines that have another right below them look cut to a width."""
    inner = [line for line, below in pairwise(lines) if line.strip() and below.strip()]
    if not inner or max(map(len, lines)) >= WRAPPED_WIDTHS.stop:
        return False
    full = sum(len(line.strip()) in WRAPPED_WIDTHS for line in inner)
    cut = sum(not _SENTENCE_END.search(line.strip()) for line in inner)
    return min(full, cut) > len(inner) / 2


def _read_plain(part: Part, config: DatasetConfig) -> Iterator[Document]:
    paragraphs: list[str] = []
    lines = chain(files.lines(part, config.errors), [""])
    for number, line in enumerate(lines, start=part.first):
        if line.strip():
            paragraphs.append(line)
        elif paragraphs:
            yield Document(f"{part.path.name}:{number - len(paragraphs)}", paragraphs)
            paragraphs = []


def _read_wrapped(part: Part, config: DatasetConfig) -> Iterator[Document]:
    paragraphs: list[str] = []
    block: list[str] = []
    blank_lines = 0
    start = part.first
    for number, line in enumerate(files.lines(part, config.errors), start=part.first):
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


def _read_wikitext(part: Part, config: DatasetConfig) -> Iterator[Document]:
    yield from wikitext_documents(files.lines(part, config.errors), name=part.path.name)


_READERS: dict[str, Callable[[Part, DatasetConfig], Iterator[Document]]] = {
    "plain": _read_plain,
    "wrapped": _read_wrapped,
    "wikitext": _read_wikitext,
    "jsonl": read_jsonl,
    "parquet": read_parquet,
}
