"""Prepared data on disk: built once, named by everything it depends on, published by a rename."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from bertexp.files import sync


def cache_root() -> Path:
    """Return the cache folder: ``$BERTEXP_CACHE``, else ``bertexp`` in the user's cache folder."""
    if chosen := os.environ.get("BERTEXP_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "bertexp"


def fingerprint(parts: object) -> str:
    """Return 16 hexadecimal digits that stand for ``parts``, any value that JSON can hold."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def cached(kind: str, key: Mapping[str, object], build: Callable[[Path], None]) -> Path:
    """Return the folder of the artefact ``kind`` for ``key``, building it if it is not there.

    ``build`` fills a temporary folder beside the final one; only a whole one is renamed
    into place. Two processes that build the same artefact at once both succeed: the second
    keeps the first one's folder.

    Args:
        kind: what it is (``"corpus"``, ``"tokens"``, ...), the folder above.
        key: everything the content depends on, the format version of the code included.
        build: writes the artefact's files into the folder it is given.
    """
    parent = cache_root() / kind
    final = parent / fingerprint(key)
    if final.exists():
        return final
    parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=parent, prefix=f".{final.name}-"))
    try:
        build(partial)
        (partial / "key.json").write_text(json.dumps(key, indent=1, ensure_ascii=False))
        sync(*partial.iterdir(), partial)
        try:
            partial.rename(final)
        except OSError:
            # Another process published the same content first: use its folder.
            if not final.exists():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return final
