"""Finding the files of ``dataset.files``: paths, patterns and the contents of archives."""

from __future__ import annotations

import glob
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from bertexp.data.cache import MANIFEST_FILE, cached
from bertexp.data.corpora import opening
from bertexp.files import expanded
from bertexp.validation import UserError, nearest, reported

VERSION = 1
# Members that show that a zip archive is an office document or an e-book.
_DOCUMENTS = {"[Content_Types].xml", "mimetype"}


def find(patterns: list[str], key: str = "dataset.files") -> list[Path]:
    """Return the files that paths and glob patterns match, each once, in the given order.

    Files matched by one pattern are sorted by name; empty ones are skipped. Archives are replaced
    by the files in them. Error messages name ``key``.

    Raises:
        UserError: there is no pattern, or one matches nothing, a folder or an empty file.
    """
    if not patterns:
        raise UserError(f"{key}=[]: name at least one file, as in {key}=[a.txt].")
    found = [path for pattern in patterns for path in _expand(pattern, key)]
    distinct = {path.resolve(): path for path in found}.values()
    return [file for path in distinct for file in _unpacked(path, key)]


def _expand(pattern: str, key: str) -> list[Path]:
    path = expanded(pattern)
    if path.is_dir():
        every = f"'{path / '**' / '*.txt'}' or '{path / '*.arrow'}'"
        raise UserError(f"{key}: '{pattern}' is a folder; name its files, as in {every}.")
    if path.is_file():
        if path.stat().st_size == 0:
            raise UserError(f"{key}: '{pattern}' is empty.")
        return [path]
    if not glob.has_magic(pattern):
        siblings = [other.name for other in path.parent.glob("*")]
        raise UserError(
            f"{key}: there is no file '{pattern}' (looked in {path.parent.resolve()})."
            f"{nearest(path.name, siblings)}"
        )
    matches = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
    found = [match for match in matches if match.is_file() and match.stat().st_size]
    if not found:
        raise UserError(f"{key}: '{pattern}' matches no file with text (looked from {Path.cwd()}).")
    return found


def _unpacked(path: Path, key: str) -> list[Path]:
    """Return the files of an archive, unpacked into the cache; otherwise the file itself."""
    head = opening.head(path)
    if head.startswith(b"PK\x03\x04"):
        members = _zipped
    elif head[257:262] == b"ustar":
        members = _tarred
    elif opening.is_packed(path) and head.startswith((b"PAR1", b"ARROW1")):
        members = _alone
    else:
        return [path]

    def build(folder: Path) -> None:
        with opening.reading(path, key):
            for number, (name, content) in enumerate(members(path)):
                if name in _DOCUMENTS:
                    raise UserError(f"{key}: '{path}' is a document; save its text as a text file.")
                place = PurePosixPath(name)
                if place.name.startswith(".") or "__MACOSX" in place.parts:
                    continue
                with content, (folder / f"{number:06}-{place.name}").open("wb") as file:
                    shutil.copyfileobj(content, file, 1 << 20)

    content = opening.digest(path, key)
    # A password, or a compression that Python does not support.
    with reported(f"{key}: cannot unpack '{path}'", RuntimeError):
        folder = cached("archives", {"version": VERSION, "content": content}, build)
    found = [file for file in sorted(folder.iterdir()) if file.name != MANIFEST_FILE]
    found = [file for file in found if file.stat().st_size]
    if not found:
        raise UserError(f"{key}: '{path}' has no file with text in it.")
    return found


def _zipped(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.is_dir():
                yield member.filename, archive.open(member)


def _tarred(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with opening.open_bytes(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            if content := archive.extractfile(member):
                yield member.name, content


def _alone(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    yield path.stem, opening.open_bytes(path)
