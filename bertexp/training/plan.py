"""Which examples a step sees: a pure function of seed and step."""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset

from bertexp import draws
from bertexp.objectives.batch import Batch
from bertexp.objectives.examples import Examples
from bertexp.objectives.positions import filled, packed
from bertexp.training.config import TrainingConfig

# Examples are sorted by length within pools of this many batches: little padding, well shuffled.
POOL_BATCHES = 64
# The number of different batch lengths of compiled and of recorded steps.
COMPILED_LENGTHS, RECORDED_LENGTHS = 4, 8
# The total of tokens of packed ones is a multiple.
PACKED_MULTIPLE = 64


class Request(NamedTuple):
    """A step whose batches are made, and what its masks depend on.

    Attributes:
        progress: the share of the budget that is spent, by which masks may change.
        weights_V: the weights of tokens of a strategy that adapts.
    """

    step: int
    progress: float = 0.0
    weights_V: np.ndarray | None = None


class BatchPlan(Dataset[list[Batch]]):
    """The batches of every step, by its number; an epoch contains every example once.

    Args:
        batch_size: examples in a batch; the last batch of an epoch may have fewer.
        batches_per_step: batches in a step; the last step of an epoch may have fewer.
        rank, processes: this process and their number; each gets its share of every step.
        packs: pack batches with padding, see ``packed``.

    Attributes:
        shapes: in few shapes, the (examples, tokens) of nearly all this process's batches; the last
            ones of an epoch may have fewer examples.
    """

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        batches_per_step: int,
        seed: int,
        rank: int = 0,
        processes: int = 1,
        packs: bool = False,
    ) -> None:
        self._examples = examples
        self._batch_size = batch_size
        self._batches_per_step = batches_per_step
        self._seed = seed
        self._rank, self._processes = rank, processes
        self.batches_per_epoch = -(-len(examples) // batch_size)
        self.steps_per_epoch = -(-self.batches_per_epoch // batches_per_step)
        self._weights_V = np.empty(0)
        self._epoch_batches = draws.LastEpochs(self._draw_epoch)
        self.packs, self._multiple = packs, PACKED_MULTIPLE
        self._longest = int(examples.lengths(0).max())
        self.shapes = frozenset[tuple[int, int]]()

    @classmethod
    def of(
        cls,
        examples: Examples,
        config: TrainingConfig,
        seed: int,
        rank: int = 0,
        processes: int = 1,
        packs: bool = False,
    ) -> BatchPlan:
        trainer = config.trainer
        size, several = trainer.batch_size, trainer.gradient_accumulation_steps
        return cls(examples, size, several, seed, rank, processes, packs)

    def in_few_shapes(self, lengths: int) -> BatchPlan:
        """Return a plan of the same batches, nearly all padded to one of so many lengths.

        Packed ones have one of twice as many totals of tokens. Predictions are filled up, see
        ``filled``.
        """
        plan = copy.copy(self)
        plan._choose_shapes(lengths)
        return plan

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __getitem__(self, wanted: int | Request) -> list[Batch]:
        """Return this process's share of a step."""
        step, progress, weights_V = wanted if isinstance(wanted, tuple) else Request(wanted)
        if weights_V is not None and not np.array_equal(weights_V, self._weights_V):
            self._examples = self._examples.remasked(lambda each: each.following(weights_V))
            self._weights_V = weights_V
        examples = self._examples.remasked(lambda masker: masker.at(progress))
        epoch, index = divmod(step, self.steps_per_epoch)
        first = index * self._batches_per_step
        chosen = self._epoch_batches(epoch)[first : first + self._batches_per_step]
        batches = [
            examples.batch(epoch, example_ids)
            if len(example_ids)
            # Every process takes part, even if there are fewer examples than processes.
            else examples.batch(epoch, chosen[0][:1]).idle()
            for example_ids in share(chosen, self._rank, self._processes)
        ]
        if self.shapes:
            batches = [self._padded(batch) for batch in batches]
        if self.packs:
            batches = [packed(batch, self._multiple) for batch in batches]
        return [filled(batch) for batch in batches] if self.shapes else batches

    def spread(self, count: int) -> list[int]:
        return [number * self.steps_per_epoch // count for number in range(count)]

    def _choose_shapes(self, lengths: int) -> None:
        whole = np.arange(min(self._batch_size, len(self._examples)))
        batches = [whole] * min(self._batches_per_step, self.batches_per_epoch)
        rows, longest = len(share(batches, self._rank, self._processes)[0]), self._longest
        if self.packs:
            totals = 2 * lengths
            self._multiple = math.ceil(rows * longest / totals / PACKED_MULTIPLE) * PACKED_MULTIPLE
            self.shapes = frozenset({(rows, longest)})
        else:
            # Tensor cores are fast on multiples of 8.
            unit = 8 * math.ceil(longest / lengths / 8)
            self.shapes = frozenset((rows, min(n * unit, longest)) for n in range(1, lengths + 1))

    def _padded(self, batch: Batch) -> Batch:
        rows, own = batch.input_ids_BL.shape
        fitting = (length for count, length in self.shapes if count == rows and length >= own)
        length = min(fitting, default=own)
        return batch if length == own else batch.padded_to(length)

    def _draw_epoch(self, epoch: int) -> list[np.ndarray]:
        """Return the example ids of each batch of ``epoch``, grouped by similar length.

        Every batch has the same proportions of all strata as the epoch, as nearly as whole
        examples allow; so has every n-th example of a batch, the share of one of n processes.
        """
        count = len(self._examples)
        strata, lengths = self._examples.strata(epoch), self._examples.lengths(epoch)
        shuffled = _interleave(draws.permutation("order", self._seed, epoch, count), strata)
        size = POOL_BATCHES * self._batch_size
        pools = np.split(shuffled, range(size, count, size))
        by_length = np.concatenate(
            [_interleave(pool[np.argsort(lengths[pool], kind="stable")], strata) for pool in pools]
        )
        batches = np.split(by_length, range(self._batch_size, count, self._batch_size))
        order = draws.permutation("batch-order", self._seed, epoch, len(batches))
        return [batches[index] for index in order]


def share(batches: list[np.ndarray], rank: int, processes: int) -> list[np.ndarray]:
    """Return one process's share of a step's batches; all processes get the same number.

    They are whole batches where they divide evenly, else every n-th example of each batch.
    """
    groups = math.gcd(len(batches), processes)
    rows = slice(rank // groups, None, processes // groups)
    return [example_ids[rows] for example_ids in batches[rank % groups :: groups]]


def _interleave(example_ids: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Spread the examples of each stratum evenly, keeping their order within it."""
    own = strata[example_ids]
    sizes = np.bincount(own)
    by_stratum = np.argsort(own, kind="stable")
    rank = np.empty(len(own))
    rank[by_stratum] = np.concatenate([np.arange(size) for size in sizes])
    return example_ids[np.argsort((rank + 0.5) / sizes[own], kind="stable")]
