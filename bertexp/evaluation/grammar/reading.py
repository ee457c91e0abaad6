"""Minimal pairs from files and the Hub, such as BLiMP (Warstadt et al. 2020)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from bertexp.data.corpora.finding import find
from bertexp.data.corpora.formats import detect_table
from bertexp.data.corpora.opening import Part
from bertexp.data.corpora.tables import READERS
from bertexp.data.hub import loading, must_be_local
from bertexp.evaluation.grammar import GENERATED, KEY, Pair
from bertexp.files import expanded
from bertexp.validation import UserError

# BLiMP's columns. The phenomenon is in the first that a row has, or else the file's name.
GOOD, BAD, PARADIGM = "sentence_good", "sentence_bad", "UID"
PHENOMENA = ("linguistics_term", "phenomenon", PARADIGM)
SUFFIXES = {".jsonl", ".parquet"}
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def check_source(name: str | None) -> None:
    """Raise a ``UserError`` if there is no such file, folder or data set on the Hub."""
    if name is not None and name != GENERATED:
        _files(_downloaded(name))


def read_pairs(name: str) -> list[Pair]:
    """Read the pairs of a file (a table such as JSON Lines or Parquet), a folder or the Hub.

    Raises:
        UserError: there are none, or a row lacks one of the sentences or has a blank one.
    """
    found = [pair for path in _files(_downloaded(name)) for pair in _pairs(path)]
    if not found:
        raise UserError(f"{KEY}={name}: has no pairs.")
    return found


def _is_on_hub(name: str) -> bool:
    is_file = expanded(name).exists() or SUFFIXES & {*Path(name).suffixes}
    return not is_file and bool(_HUB_NAME.fullmatch(name))


def _downloaded(name: str) -> str:
    if not _is_on_hub(name):
        return name
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    instead = f"{KEY}=FILE (JSON Lines with {GOOD} and {BAD})"
    with loading(name, f"{KEY}={name}", "the pairs", instead):
        try:
            return snapshot_download(
                name,
                repo_type="dataset",
                allow_patterns=[f"*{suffix}*" for suffix in sorted(SUFFIXES)],
                local_files_only=must_be_local(name),
            )
        except LocalEntryNotFoundError as error:
            raise ConnectionError from error


def _files(name: str) -> list[Path]:
    folder = expanded(name)
    if not folder.is_dir():
        return find([name], KEY)
    inside = (path for path in folder.rglob("*") if SUFFIXES & {*path.suffixes})
    found = sorted(path for path in inside if path.is_file() and not path.name.startswith("."))
    if not found:
        raise UserError(f"{KEY}={name}: the folder has no .jsonl or .parquet file.")
    return found


def _pairs(path: Path) -> Iterator[Pair]:
    read = READERS[detect_table(path, (GOOD, BAD), KEY)]
    for number, row in read(Part(path, key=KEY), (), "strict"):
        for column in (GOOD, BAD):
            text, place = row.get(column), f"{KEY}: '{path}', row {number}"
            if not isinstance(text, str):
                raise UserError(f"{place}: has no text in {column}; it has {', '.join(row)}.")
            if not text.strip():
                raise UserError(f"{place}: {column} is blank.")
        name = path.name.partition(".")[0]
        phenomenon = next((str(row[each]) for each in PHENOMENA if row.get(each)), name)
        yield Pair(row[GOOD], row[BAD], phenomenon, str(row.get(PARADIGM) or phenomenon))
