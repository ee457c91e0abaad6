"""The machine: its memory, and the speed of its own matrix product."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import re
import sys
import time
from functools import lru_cache
from pathlib import Path

import psutil
import torch
from accelerate import Accelerator

# What Linux tells of this process.
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
# What glibc calls M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_MAX (mallopt(3)).
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4

# Rows and columns of the matrices: large enough to keep the device busy.
SIZES = {"cpu": 1024, "cuda": 8192}
REPEATS = 8


def keep_freed_memory() -> None:
    """Have glibc keep freed memory for the next allocation, instead of returning it.

    A step allocates the same large blocks as the one before. New ones come from the system, which
    fills them with zeros first, page by page.
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
    """Return the most bytes that one child process held; None on Windows."""
    return _largest("RUSAGE_CHILDREN")


def _largest(whose: str) -> int | None:
    try:
        import resource
    except ImportError:
        return None
    # macOS counts in bytes, others in KiB.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(getattr(resource, whose)).ru_maxrss * unit


@lru_cache
def matrix_product_flops(device: str, dtype: torch.dtype, threads: int) -> float:
    """Return the floating-point operations a second of a square matrix product.

    A multiply-add counts as two. It takes the best of ``REPEATS`` and is measured once for each
    kind of device, precision and number of CPU threads (which have been set before).
    """
    size = SIZES.get(device, SIZES["cpu"])
    # No random numbers, dropout's would move along; but a GPU is faster on ones than on data.
    spread = torch.arange(size * size, device=device).mul_(2654435761).remainder_(65521)
    left = (spread.view(size, size) / 65521 - 0.5).to(dtype)
    right = left.t().contiguous()
    seconds = []
    for _ in range(REPEATS):
        clock = time.perf_counter()
        product = left @ right
        # Reading a value waits for the device.
        product[0, 0].item()
        seconds.append(time.perf_counter() - clock)
    return 2 * size**3 / min(seconds)


def machine_flops(accelerator: Accelerator) -> float:
    """Return ``matrix_product_flops`` of all processes together, in the precision of training."""
    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16}
    dtype = dtypes.get(accelerator.mixed_precision, torch.float32)
    own = matrix_product_flops(accelerator.device.type, dtype, torch.get_num_threads())
    return own * accelerator.num_processes
