"""Memory that is freed is kept, and the most that a process has held."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import re
import sys
from pathlib import Path

import psutil
import torch

# What Linux tells of this process.
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
# What glibc calls M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_MAX (mallopt(3)).
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> None:
    """Have glibc keep what is freed for what is asked for next, instead of returning it.

    A step asks for the same large blocks as the one before. From the system they come anew each
    time, and page by page it fills them with zeros first.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(MMAP_MAX, 0)
    mallopt(TRIM_THRESHOLD, 2**31 - 1)
    mallopt(TOP_PAD, 2**26)


def forget_peak() -> None:
    """Let ``peak_memory`` count from now on, where the system can (Linux, CUDA)."""
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        CLEAR.write_text("5")


def total_memory() -> int:
    """Return how many bytes there are of what ``peak_memory`` counts."""
    if torch.cuda.is_initialized():
        return torch.cuda.get_device_properties().total_memory
    return psutil.virtual_memory().total


def peak_memory() -> int:
    """Return the most bytes that this process held; on a GPU, that torch held there."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    if STATUS.exists() and (found := re.search(r"VmHWM:\s*(\d+) kB", STATUS.read_text())):
        return int(found[1]) * 1024
    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):
        return int(memory.peak_wset)
    return _largest("RUSAGE_SELF") or memory.rss


def peak_of_children() -> int | None:
    """Return the most bytes that one process held which this one started; None on Windows."""
    return _largest("RUSAGE_CHILDREN")


def _largest(whose: str) -> int | None:
    try:
        import resource
    except ImportError:
        return None
    # macOS counts in bytes, others in KiB.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(getattr(resource, whose)).ru_maxrss * unit
