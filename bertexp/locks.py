"""Locks between processes, which end with the process that holds them, however it ends."""

from __future__ import annotations

import errno
import os
import platform
import warnings
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from filelock import FileLock, SoftFileLock, Timeout

__all__ = ["Timeout", "acquire", "holder", "is_held"]

# The errors of file systems without locks (some mounts of NFS and Lustre).
NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}
# For ENOSYS filelock warns, and itself does what is done here for the other errors.
warnings.filterwarnings("ignore", "flock not supported")


def acquire(path: Path, seconds: float) -> AbstractContextManager[object]:
    """Acquire a lock and return it: held until the end of a ``with`` block or of this process.

    On a file system without locks a file beside ``path`` serves as one; that of a dead process of
    this machine is taken over.

    Args:
        path: the lock's file, created if missing.
        seconds: how long to wait for another process; -1 for ever.

    Raises:
        Timeout: another process holds it.
        OSError: the file cannot be created.
    """
    held, is_file = _acquire(path, seconds)
    if not is_file:
        # Read by ``holder``; on Windows it cannot be written while it is locked.
        with suppress(OSError):
            text = f"process {os.getpid()} on {platform.node()}\n"
            path.write_text(text, encoding="utf-8")
    return held


def is_held(path: Path) -> bool:
    """Whether a process holds a lock; True if that is unknown."""
    if not (path.exists() or _beside(path).exists()):
        return False
    try:
        with _acquire(path, 0)[0]:
            return False
    except OSError:
        return True


def holder(lock: Timeout) -> str:
    """Return, in brackets, which process holds a lock; an empty text if that is unknown."""
    try:
        text = Path(lock.lock_file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
    process, _, host = text.partition("\n")
    if host:
        # Whether a process of another machine is still alive cannot be known here.
        host = host.splitlines()[0]
        text = f"process {process} on {host}; if it is gone, remove {lock.lock_file}"
    return f" ({text})" if text else ""


def _acquire(path: Path, seconds: float) -> tuple[AbstractContextManager[object], bool]:
    """Return a lock that is held, and whether it is only a file."""
    try:
        lock = FileLock(path)
        return lock.acquire(timeout=seconds), isinstance(lock, SoftFileLock)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return SoftFileLock(_beside(path)).acquire(timeout=seconds), True


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.held")
