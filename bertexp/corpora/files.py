"""Local files: which ones ``dataset.files`` means, and their text line by line."""

from __future__ import annotations

import bz2
import codecs
import glob
import gzip
import hashlib
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bertexp.cache import cached
from bertexp.files import expanded
from bertexp.validation import UserError, nearest

HEAD = 1 << 16

_OPENERS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
_BROKEN = (EOFError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True)
class Part:
    """A stretch of a file that is read by itself, the whole of it unless said otherwise.

    Attributes:
        path: the file.
        start, end: the stretch, in bytes of a text file or in row groups of a Parquet file;
            None for the file's end.
        first: the number of its first line or row in the file.
    """

    path: Path
    start: int = 0
    end: int | None = None
    first: int = 1


def find(patterns: list[str]) -> list[Path]:
    """Return the files that paths and glob patterns name, each once, in the given order.

    Files of one pattern are sorted by name; empty ones are passed over.

    Raises:
        UserError: no pattern, or one that names nothing, a folder or an empty file.
    """
    if not patterns:
        raise UserError("dataset.files=[]: name at least one file, as in dataset.files=[a.txt].")
    found = [path for pattern in patterns for path in _expand(pattern)]
    return list({path.resolve(): path for path in found}.values())


def _expand(pattern: str) -> list[Path]:
    path = expanded(pattern)
    if path.is_dir():
        raise UserError(
            f"dataset.files: '{pattern}' is a folder; write '{path / '**' / '*.txt'}'"
            " for the text files in it."
        )
    if path.is_file():
        if path.stat().st_size == 0:
            raise UserError(f"dataset.files: '{pattern}' is empty.")
        return [path]
    if not glob.has_magic(pattern):
        siblings = [other.name for other in path.parent.glob("*")]
        raise UserError(
            f"dataset.files: there is no file '{pattern}' (looked in {path.parent.resolve()})."
            f"{nearest(path.name, siblings)}"
        )
    matches = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
    files = [match for match in matches if match.is_file() and match.stat().st_size]
    if not files:
        raise UserError(
            f"dataset.files: '{pattern}' matches no file with text (looked from {Path.cwd()})."
        )
    return files


def state(path: Path) -> dict[str, str | int]:
    """Return a file's place, size and time of change."""
    found = path.stat()
    return {"path": str(path.resolve()), "size": found.st_size, "mtime_ns": found.st_mtime_ns}


def digest(path: Path) -> str:
    """Return a hash of the file's bytes, remembered for its ``state``."""

    def build(folder: Path) -> None:
        with reading(path), path.open("rb") as stream:
            found = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16))
        (folder / "digest").write_text(found.hexdigest())

    return (cached("digests", state(path), build) / "digest").read_text()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the system says when ``path`` cannot be read into a ``UserError``."""
    try:
        yield
    except _BROKEN as error:
        raise UserError(f"dataset.files: '{path}' is damaged or cut off: {error}") from error
    except OSError as error:
        # Arrow's has several lines.
        reason = error.strerror or " ".join(str(error).split())
        raise UserError(f"dataset.files: cannot read '{path}': {reason}.") from error


def is_packed(path: Path) -> bool:
    """Say whether a file was packed by gzip, bzip2 or xz."""
    return _opener(path) is not open


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for its bytes, unpacked if it was packed by gzip, bzip2 or xz."""
    stream: IO[bytes] = _opener(path)(path, "rb")
    return stream


def _opener(path: Path) -> Callable[..., Any]:
    with path.open("rb") as stream:
        head = stream.read(8)
    return next((opener for magic, opener in _OPENERS.items() if head.startswith(magic)), open)


def lines(part: Part, errors: str) -> Iterator[str]:
    r"""Yield the lines of UTF-8 text without their ends (``\n``, ``\r\n`` or ``\r``).

    Args:
        part: of a file, packed or not, with or without a byte order mark.
        errors: ``"strict"``, or ``"replace"`` for U+FFFD in place of what is not UTF-8.

    Raises:
        UserError: the file is no text, is not UTF-8, is damaged or may not be read.
    """
    path = part.path
    with reading(path), open_bytes(path) as stream:
        # The head comes from a second look, because a packed stream is slow to wind back.
        if b"\0" in head(path):
            raise UserError(f"dataset.files: '{path}' is not a text file: it holds zero bytes.")
        encoding = "utf-8" if part.start else "utf-8-sig"
        if part.end is not None:
            stream.seek(part.start)
            stream = io.BytesIO(stream.read(part.end - part.start))
        text = io.TextIOWrapper(stream, encoding=encoding, errors=errors)
        try:
            for line in text:
                yield line.removesuffix("\n")
        except UnicodeDecodeError as error:
            raise UserError(
                f"dataset.files: '{path}' is not UTF-8 at byte {_first_bad_byte(path)};"
                " convert it, or set dataset.errors=replace."
            ) from error


def head(path: Path) -> bytes:
    """Return the first ``HEAD`` bytes of a file, unpacked."""
    with reading(path), open_bytes(path) as stream:
        return stream.read(HEAD)


def _first_bad_byte(path: Path) -> int:
    """Return the offset, in the unpacked file, of the first byte that is not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = 0
    with open_bytes(path) as stream:
        while chunk := stream.read(HEAD):
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:
                return offset - pending + error.start
            offset += len(chunk)
    # Only the end of the file is left: a character that was cut off.
    return offset - len(decoder.getstate()[0])
