"""Files that survive a kill and a loss of power, JSON, paths, and the home folder."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bertexp.validation import UserError

# The numbers of errors of a disk without space, or a user's share of it.
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path at which to write a file or a folder that then replaces ``path``, if any.

    All or nothing: it is renamed once it is on the disk, and removed if the ``with`` block fails.
    """
    partial, old = (path.with_name(f".{path.name}.{ending}") for ending in ("unfinished", "old"))
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove(partial)
    try:
        yield partial
        sync(*partial.rglob("*"), partial)
        if partial.is_dir() and path.exists():
            # A rename replaces files only.
            _remove(old)
            path.rename(old)
        try:
            os.replace(partial, path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
        _remove(old)
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file in UTF-8, see ``replacing``."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Return a file's object, empty if there is none; raises ``UserError`` if it is damaged."""
    return _parsed(path.read_bytes(), f"{path}:") if path.exists() else {}


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file with one a line, as ``read_json``; the last may be cut off."""
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else [""]
    return [_parsed(line, f"{path}: line {n}") for n, line in enumerate(lines[:-1], start=1)]


def _parsed(text: str | bytes, where: str) -> dict[str, Any]:
    """Return the object that JSON describes; the error for damaged JSON begins with ``where``."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{where} is damaged; remove it.")
    return found


def write_json(path: Path, value: object) -> None:
    """Write ``value`` to a file, all or nothing; NaN and infinity become null."""
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def sync(*paths: Path) -> None:
    """Force files and the entries of folders to disk: a rename must never name unwritten data."""
    for path in paths:
        if os.name == "nt" and path.is_dir():
            # Windows opens no folders; NTFS keeps a journal of their entries.
            continue
        # Windows syncs only files that are open for writing.
        descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def expanded(path: str | os.PathLike[str]) -> Path:
    """Expand ``~`` in a path to the home folder, if there is one."""
    return Path(os.path.expanduser(path))


def ensure_home() -> None:
    """Set ``HOME`` to a temporary folder if there is no home: libraries keep their caches there.

    A user id that the system does not know (``docker run --user``) has none without ``HOME``.
    """
    if os.path.expanduser("~") != "~":
        return
    user = os.getuid()
    home = Path(tempfile.gettempdir()) / f"bertexp-{user}"
    try:
        home.mkdir(mode=0o700, exist_ok=True)
        if home.stat().st_uid != user:
            raise PermissionError
    except OSError:
        # It belongs to somebody else.
        home = Path(tempfile.mkdtemp(prefix="bertexp-"))
    os.environ["HOME"] = str(home)
    # Torch and others look up the user's name.
    os.environ.setdefault("LOGNAME", str(user))
    print(f"There is no home folder; {home} is used (set HOME to choose another).", file=sys.stderr)


def conf_dir() -> Path:
    """Return the folder of the YAML files: in the package if installed, else beside it."""
    inside = Path(__file__).parent / "conf"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "conf"
