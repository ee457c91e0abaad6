"""Large files in parts, so that several processes can read them: each begins with a document."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from bertexp.data.corpora import files
from bertexp.data.corpora.columnar import row_groups
from bertexp.data.corpora.files import Part
from bertexp.data.corpora.wikitext import is_title

PART_BYTES = 1 << 24

# Whatever stands behind these begins a document. There may be other places where one begins.
_BOUNDARIES = {
    "plain": re.compile(rb"(?:\r?\n){2,}"),
    "wrapped": re.compile(rb"(?:\r?\n){3,}"),
    "wikitext": re.compile(rb"\n ?\r?\n(?= ?= )"),
    "lines": re.compile(rb"\n"),
    "jsonl": re.compile(rb"\n"),
}


def parts(path: Path, kind: str) -> list[Part]:
    """Return the parts of a file of format ``kind``, of about ``PART_BYTES`` each."""
    if kind == "parquet":
        return row_groups(path, PART_BYTES)
    with files.reading(path):
        size = path.stat().st_size
        is_whole = kind not in _BOUNDARIES or files.is_packed(path)
        if size <= PART_BYTES or is_whole or files.encoding_of(files.head(path))[:5] != "utf-8":
            return [Part(path)]
        found = []
        first = 1
        for start, end in pairwise([0, *_boundaries(path, kind, size), size]):
            found.append(Part(path, start, end, first))
            first += _count_lines(path, start, end)
    return found


def _boundaries(path: Path, kind: str, size: int) -> Iterator[int]:
    """Yield where parts begin, the first one left out."""
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
