"""The machine: its memory, and how fast it computes a matrix product and a training step."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import sys
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache, partial
from pathlib import Path

import psutil
import torch
from accelerate import Accelerator
from torch import nn

from bertexp import group
from bertexp.objectives.batch import Batch
from bertexp.training.state import Tally
from bertexp.training.step import accumulate_gradients

# Where Linux reports the memory of this process.
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
# In glibc M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_MAX (mallopt(3)).
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4

# The types of matrix products by Accelerate's name; any other computes in float32.
AUTOCAST_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
# Rows and columns of the matrices: large enough to keep the device busy.
SIZES = {"cpu": 1024, "cuda": 8192}
REPEATS = 8
# The limits on measuring steps before training starts.
MEASURED_SECONDS, MEASURED_STEPS = 1.0, 8


def keep_freed_memory() -> None:
    """Have glibc keep freed memory for the next allocation, instead of returning it.

    A step allocates the same large blocks as the one before, and the system would fill new ones
    with zeros first, page by page.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(MMAP_MAX, 0)
    mallopt(TRIM_THRESHOLD, 2**31 - 1)
    mallopt(TOP_PAD, 2**26)


def forget_peak() -> None:
    """Restart the count of ``peak_memory``, where the system can (Linux, CUDA)."""
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        CLEAR.write_text("5")


def cores() -> int:
    """Return the number of cores that this process may use."""
    process = psutil.Process()
    # macOS has no affinity.
    return len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else os.cpu_count() or 1


def total_memory() -> int:
    """Return the bytes of the memory that ``peak_memory`` measures."""
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
    # Random numbers would advance dropout's generator, and constants make a GPU faster than data.
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
    dtype = AUTOCAST_TYPES.get(accelerator.mixed_precision, torch.float32)
    own = matrix_product_flops(accelerator.device.type, dtype, torch.get_num_threads())
    return own * accelerator.num_processes


def measure_seconds_per_token(
    learner: nn.Module,
    accelerator: Accelerator,
    steps: Iterable[list[Batch]],
    weights: Mapping[str, float],
) -> float:
    """Return the seconds of forward and backward a token, without padding; changes no state.

    The first step is repeated until it is hardly faster than before. The others are measured once
    each, as many as fit into a second: their shapes are as new as those of most training steps.
    """
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    seconds = partial(_seconds, learner, accelerator, weights)
    # Some follow the losses.
    before = {buffer: buffer.clone() for buffer in learner.buffers()}
    spent, tokens, elapsed = 0.0, 0, 0.0
    with torch.random.fork_rng(devices=devices):
        for number, batches in enumerate(steps):
            tally = Tally.of(batches, flops=0).over_all_processes()
            if number == 0:
                taken = [seconds(batches, tally) for _ in range(2)]
                if taken[1] < 0.8 * taken[0]:
                    taken.append(seconds(batches, tally))
                warm, elapsed = min(taken) / tally.tokens, sum(taken)
            else:
                spent += (took := seconds(batches, tally))
                tokens, elapsed = tokens + tally.tokens, elapsed + took
            if elapsed > MEASURED_SECONDS:
                break
    for buffer, value in before.items():
        buffer.copy_(value)
    return spent / tokens if tokens else warm


def _seconds(
    learner: nn.Module,
    accelerator: Accelerator,
    weights: Mapping[str, float],
    batches: list[Batch],
    tally: Tally,
) -> float:
    clock = time.perf_counter()
    losses = accumulate_gradients(learner, accelerator, batches, weights, tally.predictions)
    for loss in losses.values():
        loss.item()
    learner.zero_grad()
    return group.largest([time.perf_counter() - clock])[0]
