"""One sweep of a name at a time: a lock that the sweep holds, and each of its jobs."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bertexp.runs.folder import remove_empty_parents
from bertexp.validation import UserError

LOCK_FILE = ".lock"


@contextmanager
def only_sweep(folder: Path, name: str) -> Iterator[None]:
    """Hold a sweep's folder; the lock ends with this process, however it ends.

    Raises:
        UserError: another sweep holds it, or a job that outlived its killed sweep.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"sweep={name}: is running already, in another process.") from error
        fcntl.flock(file, fcntl.LOCK_SH)
        try:
            yield
        finally:
            if [path.name for path in folder.iterdir()] == [LOCK_FILE]:
                # A mistake came before the first job, or it was a dry run.
                shutil.rmtree(folder)
                remove_empty_parents(folder)


@contextmanager
def one_of_the_jobs(folder: Path) -> Iterator[None]:
    """Hold the folder of a job's sweep as long as the job runs, which may be a process apart."""
    with (folder / LOCK_FILE).open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield
