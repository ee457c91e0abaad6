"""Local files: their bytes, decompressed, and their text, line by line."""

from __future__ import annotations

import bz2
import codecs
import gzip
import hashlib
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from bertexp.data.cache import cached_json
from bertexp.validation import UserError

HEAD = 1 << 16
# Most characters per line; a longer one, such as a whole corpus without line ends, is cut.
LONGEST_LINE = 1 << 22


def _arrow(compression: str, path: Path, _: str) -> IO[bytes]:
    import pyarrow as pa

    return io.BufferedReader(pa.input_stream(str(path), compression=compression))


_OPENERS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
    b"\x28\xb5\x2f\xfd": partial(_arrow, "zstd"),
    b"\x04\x22\x4d\x18": partial(_arrow, "lz4"),
}
_BROKEN = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError)
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    # Before UTF-16, whose mark is a prefix of this one.
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True)
class Part:
    """A range of a file that is read separately, by default the whole file.

    Attributes:
        start, end: the range, in bytes of a text file or in row groups of a Parquet file; an
            ``end`` of None is the file's end.
    """

    path: Path
    start: int = 0
    end: int | None = None
    first: int = 1
    key: str = "dataset.files"


def state(path: Path) -> dict[str, str | int]:
    found = path.stat()
    return {"path": str(path.resolve()), "size": found.st_size, "mtime_ns": found.st_mtime_ns}


def digest(path: Path, key: str = "dataset.files") -> str:
    """Return a hash of the file's bytes, cached by its ``state``."""

    def digested() -> str:
        with reading(path, key), path.open("rb") as stream:
            found = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16))
        return found.hexdigest()

    return str(cached_json("digests", state(path), digested))


@contextmanager
def reading(path: Path, key: str = "dataset.files") -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        raise UserError(f"{key}: '{path}' is damaged or cut off: {error}.") from error
    except OSError as error:
        # Arrow's messages have several lines.
        reason = error.strerror or " ".join(str(error).split())
        raise UserError(f"{key}: cannot read '{path}': {reason}.") from error


def is_packed(path: Path) -> bool:
    return _opener(path) is not open


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file to read bytes, decompressed if ``is_packed``."""
    return _opener(path)(path, "rb")


def _opener(path: Path) -> Callable[..., Any]:
    with path.open("rb") as stream:
        head = stream.read(8)
    return next((opener for magic, opener in _OPENERS.items() if head.startswith(magic)), open)


def lines(part: Part, errors: str) -> Iterator[str]:
    r"""Yield the lines of a text without their ends (``\n``, ``\r\n`` or ``\r``).

    Lines of over ``LONGEST_LINE`` characters are cut into several. See ``open_text``.
    """
    with open_text(part, errors) as text:
        while line := text.readline(LONGEST_LINE):
            yield line.removesuffix("\n")


@contextmanager
def open_text(part: Part, errors: str, newline: str | None = None) -> Iterator[io.TextIOWrapper]:
    """Open a text in UTF-8, or in the encoding of its byte order mark.

    Args:
        errors: ``"strict"``, or ``"replace"`` to put U+FFFD for bytes that are not UTF-8.

    Raises:
        UserError: the file is not text, not UTF-8, damaged or not readable.
    """
    path = part.path
    with reading(path, part.key), open_bytes(path) as stream:
        # The head is read separately: rewinding a compressed stream is slow.
        start = head(path, part.key)
        encoding = encoding_of(start)
        if b"\0" in start and not encoding.startswith("utf-16") and encoding != "utf-32":
            raise UserError(f"{part.key}: '{path}' is not a text file: it holds zero bytes.")
        if part.end is not None:
            encoding = "utf-8" if part.start else "utf-8-sig"
            stream.seek(part.start)
            stream = io.BytesIO(stream.read(part.end - part.start))
        try:
            yield io.TextIOWrapper(stream, encoding, errors, newline)
        except UnicodeError as error:
            place, advice = "", ""
            if encoding.startswith("utf-8"):
                place = f" at byte {_first_bad_byte(path)}"
            if part.key == "dataset.files":
                advice = ", or set dataset.errors=replace"
            name = encoding.removesuffix("-sig").upper()
            raise UserError(
                f"{part.key}: '{path}' is not {name}{place}; convert it{advice}."
            ) from error


def encoding_of(head: bytes) -> str:
    """Return the encoding that a byte order mark stands for, else UTF-8."""
    return next((name for mark, name in _MARKS.items() if head.startswith(mark)), "utf-8")


def head(path: Path, key: str = "dataset.files") -> bytes:
    with reading(path, key), open_bytes(path) as stream:
        return stream.read(HEAD)


def _first_bad_byte(path: Path) -> int:
    """Return the offset of the first byte that is not UTF-8, in the decompressed file."""
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
    # Otherwise the file ends in the middle of a character.
    return offset - len(decoder.getstate()[0])
