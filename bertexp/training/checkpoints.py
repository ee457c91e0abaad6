"""Checkpoints on disk: written all or nothing, verified by digests, pruned when old."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertexp import group
from bertexp.files import sync
from bertexp.validation import UserError

log = logging.getLogger(__name__)

FOLDER = "checkpoints"
PROGRESS_FILE = "progress.json"
MANIFEST_FILE = "manifest.json"
# Endings of folders that a kill has cut short, that are damaged, and that are being removed.
UNFINISHED, DAMAGED, PRUNED = ".unfinished", ".damaged", ".pruned"


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint.

    Attributes:
        progress: everything but the tensors; always with ``step`` and ``best``, the step of the
            best checkpoint at that time (or None).
    """

    path: Path
    progress: dict[str, Any]

    @property
    def step(self) -> int:
        return self.progress["step"]


class Checkpoints:
    """The checkpoints of one run, ``checkpoints/step-<n>/``.

    Args:
        keep: the number of newest ones to keep, besides their best ones.

    Attributes:
        whole: the verified ones, oldest first; known to the first process only.
    """

    def __init__(self, run: Path, keep: int) -> None:
        self._root = run / FOLDER
        self._keep = keep
        self.whole = find_checkpoints(run) if group.is_first() else []

    def write(self, progress: dict[str, Any], fill: Callable[[Path], None]) -> None:
        """Write a checkpoint, then remove old ones.

        Args:
            fill: writes the other files into a folder.

        Raises:
            UserError: the disk is full or not writable; earlier checkpoints are intact.
        """
        from safetensors import SafetensorError

        final = self._root / f"step-{progress['step']}"
        try:
            self._write(final, progress, fill)
            self.whole.append(Checkpoint(final, progress))
            self._prune()
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or str(error).strip().splitlines()[0]
            before = f"{self.whole[-1].path.name} is whole" if self.whole else "there is no other"
            raise UserError(
                f"{final}: the checkpoint cannot be written ({reason}); {before}."
            ) from error

    def _write(self, final: Path, progress: dict[str, Any], fill: Callable[[Path], None]) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        partial = _unused(final, UNFINISHED)
        partial.mkdir()
        try:
            fill(partial)
            (partial / PROGRESS_FILE).write_text(json.dumps(progress, indent=1))
            digests = {path.name: _digest(path) for path in sorted(partial.iterdir())}
            (partial / MANIFEST_FILE).write_text(json.dumps(digests, indent=1))
            sync(*partial.iterdir(), partial)
            if final.exists():
                # A damaged one; the run resumed from the one before it.
                final.rename(_unused(final, DAMAGED))
            partial.rename(final)
            sync(self._root)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _prune(self) -> None:
        newest = self.whole[-self._keep :]
        kept = {found.step for found in newest} | {found.progress["best"] for found in newest}
        for old in [found for found in self.whole if found.step not in kept]:
            # Renamed first: a half-deleted one must not look damaged.
            shutil.rmtree(old.path.rename(_unused(old.path, PRUNED)))
            self.whole.remove(old)


def find_checkpoints(run: Path) -> list[Checkpoint]:
    """Return the verified checkpoints of a run, oldest first.

    Damaged and unfinished ones are logged and left as they are. Nothing in the files is executed.
    """
    whole = []
    for path in sorted((run / FOLDER).glob("step-*")):
        if PRUNED in path.suffixes:
            shutil.rmtree(path, ignore_errors=True)
        elif DAMAGED not in path.suffixes:
            try:
                whole.append(read_checkpoint(path))
            except (OSError, ValueError) as error:
                log.warning("%s/%s is passed over: %s.", FOLDER, path.name, error)
    return sorted(whole, key=lambda found: found.step)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        ValueError: its files have changed or are incomplete.
    """
    if not (path / MANIFEST_FILE).exists() or UNFINISHED in path.suffixes:
        raise ValueError("it was not finished")
    digests = _load_object(path / MANIFEST_FILE)
    if PROGRESS_FILE not in digests:
        raise ValueError(f"{MANIFEST_FILE} is damaged")
    for name, digest in digests.items():
        if not (path / name).is_file():
            raise ValueError(f"{name} is missing")
        if _digest(path / name) != digest:
            raise ValueError(f"{name} is damaged")
    progress = _load_object(path / PROGRESS_FILE)
    step, best = progress.get("step"), progress.get("best", "?")
    if type(step) is not int or not (best is None or type(best) is int):
        raise ValueError(f"{PROGRESS_FILE} is no run's")
    if path.name != f"step-{step}":
        raise ValueError(f"it is of step {step}")
    return Checkpoint(path, progress)


def _load_object(path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        loaded = None
    if not isinstance(loaded, dict):
        raise ValueError(f"{path.name} is damaged")
    return loaded


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def _unused(path: Path, ending: str) -> Path:
    """Return ``step-40.unfinished`` for ``step-40``, with a number if it exists."""
    names = itertools.chain([ending], (f"{ending}.{number}" for number in itertools.count(2)))
    return next(free for name in names if not (free := path.with_name(path.name + name)).exists())
