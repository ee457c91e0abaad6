"""Jobs that run at the same time on one machine: each has GPUs of its own.

Their share of the cores joblib gives them: it sets OMP_NUM_THREADS.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

from bertexp.locks import Timeout, acquire

VISIBLE = "CUDA_VISIBLE_DEVICES"
# Held until the process ends: a process has its GPUs for all the jobs it does.
_held: list[AbstractContextManager[object]] = []


def take_share(sweep: Path, at_once: int) -> None:
    """Let this process see its share of the GPUs alone, if there are any.

    Args:
        sweep: the sweep's folder, in which locks say which shares are taken.
        at_once: jobs that run at the same time, each in a process.
    """
    gpus = visible_gpus()
    if _held or not gpus:
        return
    os.environ[VISIBLE] = ",".join(share(gpus, _free_place(sweep, at_once), at_once))


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA names them."""
    import torch

    named = [name for name in os.environ.get(VISIBLE, "").split(",") if name]
    return named or [str(number) for number in range(torch.cuda.device_count())]


def share(gpus: list[str], place: int, places: int) -> list[str]:
    """Return the GPUs of one of several places; where there are too few, places share one."""
    return gpus[place::places] or [gpus[place % len(gpus)]]


def _free_place(sweep: Path, places: int) -> int:
    for place in range(places):
        try:
            _held.append(acquire(sweep / f".gpus-{place}", seconds=0))
        except Timeout:
            continue
        return place
    raise AssertionError("more jobs at once than were said")
