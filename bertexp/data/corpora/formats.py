"""The format of a file, from its name and first 64 KiB, and the parts it can be read in."""

from __future__ import annotations

import csv
import json
import mmap
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from bertexp.data.corpora import opening
from bertexp.data.corpora.columnar import row_groups
from bertexp.data.corpora.opening import Part
from bertexp.validation import UserError

# Prose wrapped by an editor: lines of about this many characters, most cut in mid-sentence.
WRAPPED_WIDTHS = range(40, 101)
# Most lines of a paragraph, on average, for a text to count as wrapped.
LINES = 50
# Fewest lines with the same number of fields for a file to count as a table.
FEWEST_ROWS = 5
SEPARATORS = {",": "csv", ";": "csv", "\t": "tsv"}

PART_BYTES = 1 << 24

# A document begins after each of these. Documents may begin elsewhere too.
_BOUNDARIES = {
    "plain": re.compile(rb"(?:\r?\n){2,}"),
    "wrapped": re.compile(rb"(?:\r?\n){3,}"),
    "wikitext": re.compile(rb"\n ?\r?\n(?= ?= )"),
    "lines": re.compile(rb"\n"),
    "jsonl": re.compile(rb"\n"),
}

# A heading of WikiText; with one mark on each side it is the title of an article.
HEADING = re.compile(r"\s?(?P<marks>=(?: =)*) (?P<title>[^=\s](?:.*[^=\s])?) (?P=marks)\s*")
_SENTENCE_END = re.compile(r"[.!?:;…。！？][\"'”’»)\]]*$")
_MAGIC = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\xff\xff\xff\xff": "arrow"}
_SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_FOREIGN = {
    r"%PDF-": "a PDF document",
    r"\{\\rtf": "a document in RTF",
    r"(?i)<(\?xml|!doctype|html|mediawiki)\b": "XML or HTML",
}


def is_title(line: str) -> bool:
    heading = HEADING.fullmatch(line)
    return heading is not None and heading["marks"] == "="


def detect(path: Path, columns: Sequence[str] = (), alone: bool = False) -> str:
    """Return the format of a file of ``dataset.files``.

    Args:
        columns: the columns to read; a line that names all of them is a table's header.
        alone: whether it is the only file, so that its lines are the likely documents.

    Raises:
        UserError: the file is not readable as text, or may be a table.
    """
    head = opening.head(path)
    text = head.decode(opening.encoding_of(head), "replace")
    for pattern, name in _FOREIGN.items():
        if re.match(pattern, text.lstrip()):
            raise UserError(
                f"dataset.files: '{path}' is {name}; save its text as a text file, or read it as "
                "it is with dataset.format=plain."
            )
    if table := _table(path, head, text):
        return table
    lines = _lines(text)
    if is_title(next(filter(str.strip, lines), "")):
        return "wikitext"
    # The last line may be cut off by the limit.
    is_whole = len(head) < opening.HEAD
    complete = lines if is_whole else lines[:-1]
    if kind := _separated([*filter(str.strip, complete)], columns):
        if kind.startswith("looks"):
            raise UserError(f"dataset.files: '{path}' {kind}.")
        return kind
    if _is_wrapped(complete):
        return "wrapped"
    are_rows = len(lines) > 2 and all(map(str.strip, lines[:-1]))
    return "lines" if are_rows and (alone or not is_whole) else "plain"


def detect_table(path: Path, columns: Sequence[str], key: str) -> str:
    """Return the format of a table; raises a ``UserError`` that names ``key`` if it is not one."""
    head = opening.head(path, key)
    text = head.decode(opening.encoding_of(head), "replace")
    lines = [*filter(str.strip, _lines(text))]
    kind = _table(path, head, text) or _separated(lines[:1], columns)
    if kind is None:
        known = "CSV, TSV, JSON, JSON Lines, Parquet or Arrow"
        raise UserError(f"{key}: '{path}' is no {known} with {', '.join(columns)}.")
    return kind


def _table(path: Path, head: bytes, text: str) -> str | None:
    """Recognise a table by its content, else by its name."""
    if known := next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None):
        return known
    suffixes = [_SUFFIXES[s] for s in map(str.lower, path.suffixes) if s in _SUFFIXES]
    if re.match(r'\s*(\[\s*[{"\]]|\{\s*"|\{\s*$)', text):
        first = next(filter(str.strip, _lines(text))).strip()
        # The line may be cut off by the limit, or malformed.
        is_line = len(first) == len(text.strip()) == opening.HEAD or "jsonl" in suffixes
        by_line = first[0] == "{" and first != "{" and (is_line or _is_json(first))
        return "jsonl" if by_line else "json"
    return suffixes[-1] if suffixes else None


def _lines(text: str) -> list[str]:
    return re.split(r"\r\n|\r|\n", text)


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _separated(lines: list[str], columns: Sequence[str]) -> str | None:
    """Return the format of the table with these lines, a message if unsure, None if it is none."""
    for separator, kind in SEPARATORS.items():
        rows = [*csv.reader(lines, delimiter=separator)]
        names, sizes = rows[0] if rows else [], {len(row) for row in rows}
        if len(names) > 1 and columns and set(columns) <= set(names):
            return kind
        # In prose, a space follows a comma.
        is_table = len(sizes) == 1 and len(names) > 1 and len(rows) >= FEWEST_ROWS
        if is_table and not any(field[:1] == " " for row in rows for field in row[1:]):
            shown = ", ".join(name[:20] for name in names[:4])
            return (
                f"looks like a table; dataset.format={kind} reads the dataset.column of it (its "
                f"first line has {shown}), dataset.format=plain or lines its lines as they are"
            )
    return None


def _is_wrapped(lines: list[str]) -> bool:
    """Whether lines directly followed by another were wrapped to a width.

    Then most of them end in mid-sentence, and the next line's first word would not have fitted.
    """
    inner = [(a.strip(), b.split()[0]) for a, b in pairwise(lines) if a.strip() and b.strip()]
    blocks = 1 + sum(not line.strip() for line in lines)
    if not inner or max(map(len, lines)) >= WRAPPED_WIDTHS.stop or len(inner) > LINES * blocks:
        return False
    width = sorted(len(line) for line, _ in inner)[int(0.95 * len(inner))]
    tests: list[Callable[[str, str], bool]] = [
        lambda line, _: len(line) in WRAPPED_WIDTHS,
        lambda line, word: not _SENTENCE_END.search(line) and not word[0].isupper(),
        # Some editors break lines short of the width, for an even right edge.
        lambda line, word: len(line) + 1 + len(word) > 0.9 * width,
    ]
    return all(sum(test(*pair) for pair in inner) > len(inner) / 2 for test in tests)


def parts(path: Path, kind: str) -> list[Part]:
    """Return the parts of a file of format ``kind``, of about ``PART_BYTES`` each."""
    if kind == "parquet":
        return row_groups(path, PART_BYTES)
    with opening.reading(path):
        size = path.stat().st_size
        is_whole = kind not in _BOUNDARIES or opening.is_packed(path)
        if size <= PART_BYTES or is_whole or opening.encoding_of(opening.head(path))[:5] != "utf-8":
            return [Part(path)]
        found = []
        first = 1
        for start, end in pairwise([0, *_boundaries(path, kind, size), size]):
            found.append(Part(path, start, end, first))
            first += _count_lines(path, start, end)
    return found


def _boundaries(path: Path, kind: str, size: int) -> Iterator[int]:
    """Yield the parts' offsets, without the first."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        wanted = PART_BYTES
        while wanted < size:
            for match in _BOUNDARIES[kind].finditer(content, wanted):
                if kind != "wikitext" or _title_follows(content, match.end()):
                    break
            else:
                return
            if match.end() == size:
                return
            yield match.end()
            wanted = match.end() + PART_BYTES


def _title_follows(content: mmap.mmap, start: int) -> bool:
    line = content[start : content.find(b"\n", start) + 1]
    return is_title(line.decode(errors="replace"))


def _count_lines(path: Path, start: int, end: int) -> int:
    with path.open("rb") as file:
        file.seek(start)
        content = file.read(end - start)
    return content.count(b"\n") + content.count(b"\r") - content.count(b"\r\n")
