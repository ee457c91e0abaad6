"""Batches that other processes prepare ahead of time, and how they are copied to a GPU."""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from bertexp.objectives.batch import Batch
from bertexp.objectives.vocabulary_loss import AdaptiveRates
from bertexp.signals import ignore_signals
from bertexp.training.machine import cores
from bertexp.training.plan import BatchPlan, Request

# With a GPU this process is busy launching kernels.
MOST_WORKERS = 4
# Steps that travel together to a GPU.
TOGETHER = 8
# Tensors begin at multiples of so many bytes.
ALIGNED = 16


@dataclass(frozen=True)
class _Place:
    start: int
    dtype: torch.dtype
    shape: torch.Size

    def view(self, flat: Tensor) -> Tensor:
        end = self.start + math.prod(self.shape) * self.dtype.itemsize
        return flat[self.start : end].view(self.dtype).view(self.shape)


@dataclass(frozen=True)
class Packed:
    """The batches of some steps, with all their tensors in one.

    Sharing a tensor between processes, pinning it and copying it to a GPU takes about as long for
    many steps as for one of the dozen tensors of a batch.

    Attributes:
        flat: ``uint8``.
        steps: the batches, with places in ``flat`` instead of tensors.
    """

    flat: Tensor
    steps: list[list[Batch]]

    @classmethod
    def of(cls, steps: Iterable[list[Batch]]) -> Packed:
        parts: list[tuple[_Place, Tensor]] = []
        size = 0

        def put(tensor: Tensor) -> _Place:
            nonlocal size
            place = _Place(size, tensor.dtype, tensor.shape)
            parts.append((place, tensor))
            size += -(-tensor.nbytes // ALIGNED) * ALIGNED
            return place

        placed = [[batch.mapped(put) for batch in step] for step in steps]
        flat = torch.empty(size, dtype=torch.uint8)
        for place, tensor in parts:
            place.view(flat).copy_(tensor)
        return cls(flat, placed)

    def pin_memory(self) -> Packed:
        return Packed(self.flat.pin_memory(), self.steps)

    def to(self, device: torch.device) -> Iterator[list[Batch]]:
        """Yield the batches of each step, on the device."""
        flat = self.flat.to(device, non_blocking=True)
        for step in self.steps:
            yield [batch.mapped(lambda place: place.view(flat), kind=_Place) for batch in step]


class Requests:
    """The steps that a loader requests: all, or those up to the next update of adaptive rates.

    The latter are updated when the loader begins anew, after all steps before have been trained on,
    so that the rates of a step depend on neither the number of workers nor where a run resumed.
    """

    def __init__(
        self, first: int, progress: Callable[[int], float] | None, rates: AdaptiveRates | None
    ) -> None:
        self._step, self._progress, self._rates = first, progress, rates

    def __iter__(self) -> Iterator[Request]:
        rates, weights_V = self._rates, None
        if rates is not None:
            if self._step % rates.every == 0:
                rates.update()
            weights_V = rates.table()
        while True:
            progress = self._progress(self._step) if self._progress else 0.0
            yield Request(self._step, progress, weights_V)
            self._step += 1
            if rates is not None and self._step % rates.every == 0:
                return


def load_steps(
    plan: BatchPlan,
    first: int,
    num_workers: int | None,
    device: torch.device,
    progress: Callable[[int], float] | None = None,
    rates: AdaptiveRates | None = None,
    at_once: int = 1,
) -> Iterator[list[Batch]]:
    """Yield the batches of step ``first`` and of all steps after it, endlessly.

    Args:
        num_workers: processes that make the batches, 0 for this one; None for ``gpu_workers`` with
            a GPU and 0 without.
        device: a GPU gets the batches of several steps at once.
        progress: returns the share of the budget that is spent before a step; called in this
            process when the step is sent to a worker. None if masks do not change with it.
        rates: of a strategy that adapts.
        at_once: the number of runs that share this machine.
    """
    requests = Requests(first, progress, rates)
    if device.type != "cuda":
        loader = _loader(plan, requests, num_workers or 0, batch_size=None)
        while True:
            yield from loader
    sharing = at_once * int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    workers = gpu_workers(cores() // sharing) if num_workers is None else num_workers
    packing = {"batch_size": TOGETHER, "collate_fn": Packed.of, "pin_memory": True}
    loader = _loader(plan, requests, workers, **packing)
    while True:
        for packed in loader:
            yield from packed.to(device)


def gpu_workers(cores: int) -> int:
    """Return the number of workers for a run with so many cores: one of them is for itself."""
    return min(max(cores - 1, 0), MOST_WORKERS)


def _loader(plan: BatchPlan, requests: Requests, workers: int, **packing: Any) -> DataLoader[Any]:
    # Even where it is no longer the default (Python 3.14): a fork shares the tokens, and workers do
    # not use CUDA.
    forks = sys.platform == "linux" and "fork" in multiprocessing.get_all_start_methods()
    return DataLoader(
        plan,
        sampler=requests,
        num_workers=workers,
        persistent_workers=workers > 0,
        # A generator of its own: creating an iterator must not advance the global one (dropout's).
        generator=torch.Generator(),
        worker_init_fn=ignore_signals,
        multiprocessing_context="fork" if forks and workers else None,
        **packing,
    )
