"""One sweep of a name at a time: it holds a lock, and each of its jobs one of its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bertexp import locks
from bertexp.experiment.folder import remove_empty_parents
from bertexp.experiment.summary import LOCK_FILE
from bertexp.validation import UserError


@contextmanager
def only_sweep(folder: Path, name: str) -> Iterator[None]:
    """Hold a sweep's folder; the lock ends with this process, however it ends.

    Raises:
        UserError: another sweep holds it, or a job that outlived its killed sweep.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = locks.acquire(folder / LOCK_FILE, seconds=0)
    except locks.Timeout as error:
        raise _is_running(name, locks.holder(error)) from error
    with lock:
        for job in folder.glob(f"*/{LOCK_FILE}"):
            if locks.is_held(job):
                raise _is_running(name, f": {job.parent}")
        try:
            yield
        finally:
            if all(path.name.startswith(LOCK_FILE) for path in folder.iterdir()):
                # A mistake came before the first job, or it was a dry run.
                shutil.rmtree(folder, ignore_errors=True)
                remove_empty_parents(folder)


def _is_running(name: str, what: str) -> UserError:
    return UserError(f"sweep={name}: is running already, in another process{what}.")
