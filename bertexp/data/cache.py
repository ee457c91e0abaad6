"""Prepared data on disk: built once, named by a hash of its inputs, published by a rename.

An incomplete artefact is recognised by the sizes of its files and rebuilt.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import platformdirs

from bertexp.files import DISK_IS_FULL, replacing
from bertexp.locks import Timeout, acquire, holder, is_held
from bertexp.validation import UserError

MANIFEST_FILE, VALUE_FILE = "manifest.json", "value.json"
# Of a fingerprint.
DIGITS = 16

log = logging.getLogger(__name__)


def cache_root() -> Path:
    """Return the cache folder: ``$BERTEXP_CACHE``, else the operating system's default.

    On Linux that is ``~/.cache/bertexp``, or ``bertexp`` in ``$XDG_CACHE_HOME``.
    """
    if chosen := os.environ.get("BERTEXP_CACHE"):
        return Path(chosen).expanduser()
    return platformdirs.user_cache_path("bertexp", appauthor=False)


def fingerprint(parts: object) -> str:
    """Return 16 hexadecimal digits that identify ``parts``, any value that JSON can represent."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def cached(kind: str, key: Mapping[str, object], build: Callable[[Path], None]) -> Path:
    """Return the folder of an artefact, building it if it is missing or incomplete.

    ``build`` fills a temporary folder beside the final one, which is renamed into place once it is
    complete, with a list of its files and their sizes. If two processes need the same artefact at
    once, the second waits for the first.

    Args:
        kind: ``"corpus"``, ``"tokens"``, ...; the name of the parent folder.
        key: everything the content depends on, including the format version of the code.

    Raises:
        UserError: the cache is not a folder, or cannot be written.
    """
    parent = cache_root() / kind
    final = parent / fingerprint(key)
    if not _is_whole(final):
        with _only_builder(final):
            if not _is_whole(final):
                _build(final, key, build)
    return final


def cached_json(kind: str, key: Mapping[str, object], make: Callable[[], object]) -> Any:
    """Return the JSON value of an artefact, made by ``make`` if it is missing, see ``cached``."""

    def build(folder: Path) -> None:
        (folder / VALUE_FILE).write_text(json.dumps(make()), encoding="utf-8")

    folder = cached(kind, {**key, "file": VALUE_FILE}, build)
    return json.loads((folder / VALUE_FILE).read_text(encoding="utf-8"))


def _build(final: Path, key: Mapping[str, object], build: Callable[[Path], None]) -> None:
    if final.exists():
        log.warning("%s: is damaged, or cut off; it is built again.", final)
    with _cache_errors(only=DISK_IS_FULL), replacing(final) as folder:
        with _cache_errors():
            folder.mkdir()
        build(folder)
        manifest = {"key": key, "sizes": _sizes(folder)}
        text = json.dumps(manifest, indent=1, ensure_ascii=False)
        (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")


@contextmanager
def _only_builder(final: Path) -> Iterator[None]:
    """Wait for other processes that build ``final``; the lock is released if this one dies."""
    path = final.with_name(f".{final.name}.lock")
    with _cache_errors():
        final.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = acquire(path, 0)
        except Timeout as error:
            what = final.parent.name + holder(error)
            log.info("Waiting for another process that prepares %s", what)
            lock = acquire(path, -1)
    with lock:
        try:
            yield
        finally:
            # Windows cannot remove an open file.
            with suppress(OSError):
                path.unlink(missing_ok=True)


@contextmanager
def _cache_errors(only: Container[int | None] | None = None) -> Iterator[None]:
    """Turn an ``OSError`` into a ``UserError``, only those with an errno in ``only`` if given."""
    try:
        yield
    except OSError as error:
        if only is not None and error.errno not in only:
            raise
        reason = os.strerror(error.errno) if error.errno else error
        raise UserError(
            f"{cache_root()}: the cache cannot be written ({reason}); choose another folder with "
            "BERTEXP_CACHE."
        ) from error


def _is_whole(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_bytes())
        return bool(manifest["sizes"] == _sizes(folder))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False


def _sizes(folder: Path) -> dict[str, int]:
    files = sorted(path for path in folder.iterdir() if path.name != MANIFEST_FILE)
    return {path.name: path.stat().st_size for path in files}


def stored() -> dict[str, int]:
    """Return how many bytes the cache has of each kind."""
    found: dict[str, int] = {}
    for path in _artefacts():
        found[path.parent.name] = found.get(path.parent.name, 0) + _total(path)
    return found


def clear() -> dict[str, int]:
    """Remove what is in the cache, and return how many bytes of each kind that were.

    What another process is building stays, and so do files that the cache did not make.
    """
    removed: dict[str, int] = {}
    for path in _artefacts():
        digits = path.name.lstrip(".")[:DIGITS]
        if is_held(path.with_name(f".{digits}.lock")):
            continue
        removed[path.parent.name] = removed.get(path.parent.name, 0) + _total(path)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for kind in (*removed, *(f"{kind}-shards" for kind in removed)):
        with suppress(OSError):  # it is not there, or something else is in it
            (cache_root() / kind).rmdir()
    return removed


def _artefacts() -> list[Path]:
    """Return artefacts, the remains of incomplete ones, and locks."""
    named = re.compile(rf"\.?[0-9a-f]{{{DIGITS}}}([.-].*)?")
    return [path for path in sorted(cache_root().glob("*/*")) if named.fullmatch(path.name)]


def _total(path: Path) -> int:
    files = [path, *path.rglob("*")] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
