"""The speed of the machine's own matrix product, which no training can pass."""

from __future__ import annotations

import time
from functools import lru_cache

import torch
from accelerate import Accelerator

# Rows and columns of the matrices: large enough to keep the device busy.
SIZES = {"cpu": 1024, "cuda": 8192}
REPEATS = 8


@lru_cache
def matrix_product_flops(device: str, dtype: torch.dtype, threads: int) -> float:
    """Return the floating-point operations a second of a square matrix product.

    A multiply-add counts as two. It takes the best of ``REPEATS`` and is measured once for each
    kind of device, precision and number of threads.

    Args:
        device: ``"cpu"``, ``"cuda"`` or another kind of torch's.
        dtype: what the matrices hold.
        threads: of the CPU, which have been set before.
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
