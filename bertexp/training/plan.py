"""Which examples a step sees: a pure function of seed and step."""

from __future__ import annotations

import itertools
import math
import multiprocessing
import sys
from collections.abc import Callable

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from bertexp import draws
from bertexp.objectives.batch import Batch
from bertexp.objectives.examples import Examples
from bertexp.signals import ignore_signals

# Examples are sorted by length within pools of this many batches: little padding, much shuffling.
POOL_BATCHES = 64
# On a GPU this process is busy giving it work. On an H100 with small and batches of 256 two made a
# step of 32 ms one of 24 ms.
GPU_WORKERS = 2
# With ``few_shapes`` batches have one of so many lengths.
FEW_LENGTHS = 4


class BatchPlan(Dataset[list[Batch]]):
    """Every step's batches, by number. Each epoch has every example once.

    Args:
        batch_size: examples of a batch; the last of an epoch's batches may have fewer.
        batches_per_step: batches whose gradients are added up; an epoch's last step may have fewer.
        rank, processes: for which of how many processes; each has its share of every step.
        few_shapes: pad nearly all batches to one of ``shapes``.

    Attributes:
        shapes: the (examples, tokens) of nearly all this process's batches if there are to be few.
            Not of an epoch's last ones, which may have fewer examples.
    """

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        batches_per_step: int,
        seed: int,
        rank: int = 0,
        processes: int = 1,
        few_shapes: bool = False,
    ) -> None:
        self._examples = examples
        self._batch_size = batch_size
        self._batches_per_step = batches_per_step
        self._seed = seed
        self._rank, self._processes = rank, processes
        self.batches_per_epoch = -(-len(examples) // batch_size)
        self.steps_per_epoch = -(-self.batches_per_epoch // batches_per_step)
        self._epoch_batches = draws.LastEpochs(self._draw_epoch)
        self.shapes: frozenset[tuple[int, int]] = self._few_shapes() if few_shapes else frozenset()

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __getitem__(self, wanted: int | tuple[int, float]) -> list[Batch]:
        """Return this process's share of a step, by its number or (number, mask rate)."""
        step, rate = wanted if isinstance(wanted, tuple) else (wanted, None)
        examples = self._examples if rate is None else self._examples.at_rate(rate)
        epoch, index = divmod(step, self.steps_per_epoch)
        first = index * self._batches_per_step
        chosen = self._epoch_batches(epoch)[first : first + self._batches_per_step]
        batches = [
            examples.batch(epoch, example_ids)
            if len(example_ids)
            # A process takes part even where there are fewer examples than processes.
            else examples.batch(epoch, chosen[0][:1]).idle()
            for example_ids in share(chosen, self._rank, self._processes)
        ]
        return [self._padded(batch) for batch in batches] if self.shapes else batches

    def spread(self, count: int) -> list[int]:
        return [number * self.steps_per_epoch // count for number in range(count)]

    def _few_shapes(self) -> frozenset[tuple[int, int]]:
        whole = np.arange(min(self._batch_size, len(self._examples)))
        batches = [whole] * min(self._batches_per_step, self.batches_per_epoch)
        rows = len(share(batches, self._rank, self._processes)[0])
        longest = int(self._examples.lengths(0).max())
        # A multiple of 8: the shapes that tensor cores are fast at.
        unit = 8 * math.ceil(longest / FEW_LENGTHS / 8)
        return frozenset((rows, min(n * unit, longest)) for n in range(1, FEW_LENGTHS + 1))

    def _padded(self, batch: Batch) -> Batch:
        rows, own = batch.input_ids_BL.shape
        fitting = (length for count, length in self.shapes if count == rows and length >= own)
        length = min(fitting, default=own)
        return batch if length == own else batch.padded_to(length)

    def _draw_epoch(self, epoch: int) -> list[np.ndarray]:
        """Return the example ids of each batch of ``epoch``, neighbours in length together.

        Every batch has the epoch's shares of all strata, as nearly as whole examples allow,
        and so has every n-th example of it, which may go to one of several processes.
        """
        count = len(self._examples)
        strata, lengths = self._examples.strata(epoch), self._examples.lengths(epoch)
        state = draws.combine(draws.key("order", self._seed, epoch), np.arange(count))
        shuffled = _interleave(np.argsort(state), strata)
        size = POOL_BATCHES * self._batch_size
        pools = np.split(shuffled, range(size, count, size))
        by_length = np.concatenate(
            [_interleave(pool[np.argsort(lengths[pool], kind="stable")], strata) for pool in pools]
        )
        batches = np.split(by_length, range(self._batch_size, count, self._batch_size))
        state = draws.combine(draws.key("batch-order", self._seed, epoch), np.arange(len(batches)))
        return [batches[index] for index in np.argsort(state)]


def share(batches: list[np.ndarray], rank: int, processes: int) -> list[np.ndarray]:
    """Return what one of several processes has of a step's batches, as many for each of them.

    Whole batches as far as they can be dealt out evenly, else every n-th example of each.
    """
    hands = math.gcd(len(batches), processes)
    rows = slice(rank // hands, None, processes // hands)
    return [example_ids[rows] for example_ids in batches[rank % hands :: hands]]


def _interleave(example_ids: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Spread the examples of each stratum evenly, keeping their order within it."""
    own = strata[example_ids]
    sizes = np.bincount(own)
    by_stratum = np.argsort(own, kind="stable")
    rank = np.empty(len(own))
    rank[by_stratum] = np.concatenate([np.arange(size) for size in sizes])
    return example_ids[np.argsort((rank + 0.5) / sizes[own], kind="stable")]


def load_steps(
    plan: BatchPlan,
    first: int,
    num_workers: int | None,
    device: torch.device,
    mask_prob: Callable[[int], float] | None = None,
) -> DataLoader[list[Batch]]:
    """Return a loader that gives the batches of step ``first`` and all after it, without end.

    Args:
        num_workers: processes that make them; 0 for this one; None for two on a GPU, else 0.
        mask_prob: the mask rate of a step, looked up in this process when the step is handed to a
            worker; None for ``masking.prob``.
    """
    numbers = itertools.count(first)
    # Also where it is no longer the default (Python 3.14): a fork shares the tokens. CUDA is not
    # used by workers.
    forks = sys.platform == "linux" and "fork" in multiprocessing.get_all_start_methods()
    if num_workers is None:
        num_workers = GPU_WORKERS if device.type == "cuda" else 0
    return DataLoader(
        plan,
        batch_size=None,
        sampler=numbers if mask_prob is None else ((step, mask_prob(step)) for step in numbers),
        num_workers=num_workers,
        pin_memory=device.type == "cuda",
        # A generator of its own: making an iterator must not move the global one (dropout's).
        generator=torch.Generator(),
        worker_init_fn=ignore_signals,
        multiprocessing_context="fork" if forks and num_workers else None,
    )
