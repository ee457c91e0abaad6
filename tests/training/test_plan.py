"""The plan of batches: every example once an epoch, in an order that nothing else changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bertexp.objectives.examples import Examples
from bertexp.training.loading import load_steps
from bertexp.training.plan import BatchPlan, share

SIZES = st.integers(1, 40)
SEEDS = st.integers(0, 2**32 - 1)


@dataclass
class Seen:
    """A batch, as far as a plan is concerned."""

    example_ids: np.ndarray
    epoch: int


class Numbers(Examples):
    """Examples that are their own numbers, with lengths of a real corpus's spread."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def lengths(self, epoch: int) -> np.ndarray:
        return 8 + np.random.default_rng(epoch).geometric(0.02, self._count).clip(max=120)

    def documents(self) -> np.ndarray:
        return np.arange(self._count)

    def batch(self, epoch: int, example_ids: np.ndarray) -> Any:
        return Seen(example_ids, epoch)


def steps(plan: BatchPlan, epoch: int) -> list[list[list[int]]]:
    first = epoch * plan.steps_per_epoch
    numbers = range(first, first + plan.steps_per_epoch)
    return [[batch.example_ids.tolist() for batch in plan[step]] for step in numbers]


@settings(deadline=None)
@given(
    count=st.integers(1, 300), size=SIZES, several=st.integers(1, 5), seed=SEEDS,
    epoch=st.integers(0, 9),
)  # fmt: skip
def test_an_epoch_has_every_example_once(
    count: int, size: int, several: int, seed: int, epoch: int
) -> None:
    plan = BatchPlan(Numbers(count), size, several, seed)
    found = steps(plan, epoch)
    batches = [batch for step in found for batch in step]
    assert sorted(example for batch in batches for example in batch) == list(range(count))
    sizes = sorted(map(len, batches), reverse=True)
    assert sizes == [size] * (count // size) + [count % size] * (count % size > 0)
    # No step reaches into the next epoch, and only the last has fewer batches.
    assert [len(step) for step in found[:-1]] == [several] * (len(found) - 1)
    first = epoch * plan.steps_per_epoch
    assert {b.epoch for s in range(len(found)) for b in plan[first + s]} == {epoch}
    # Accumulation joins batches and changes none.
    assert batches == [batch for (batch,) in steps(BatchPlan(Numbers(count), size, 1, seed), epoch)]


@settings(deadline=None, max_examples=30)
@given(count=st.integers(50, 300), size=SIZES, seed=SEEDS)
def test_the_order_is_a_function_of_seed_and_epoch(count: int, size: int, seed: int) -> None:
    plan, again = (BatchPlan(Numbers(count), size, 1, seed) for _ in range(2))
    # Read in any order, as after resuming.
    later, first = steps(again, 3), steps(again, 0)
    assert (steps(plan, 0), steps(plan, 3)) == (first, later)
    assert first != later
    assert first != steps(BatchPlan(Numbers(count), size, 1, seed + 1), 0)


def padding(batches: list[np.ndarray], lengths: np.ndarray) -> float:
    width = sum(len(batch) * lengths[batch].max() for batch in batches)
    return 1 - lengths.sum() / width


def test_there_is_little_padding_and_the_order_does_not_depend_on_length() -> None:
    examples = Numbers(4096)
    lengths = examples.lengths(0)
    found = steps(BatchPlan(examples, 32, 1, seed=0), 0)
    batches = [np.array(batch) for step in found for batch in step]
    mixed = np.split(np.random.default_rng(0).permutation(4096), 128)
    assert padding(mixed, lengths) > 0.4
    assert padding(batches, lengths) < 0.05
    means = [lengths[batch].mean() for batch in batches]
    assert stats.spearmanr(np.arange(len(means)), means).pvalue > 1e-6


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8), processes=st.integers(1, 12))
def test_processes_share_a_step_between_them(sizes: list[int], processes: int) -> None:
    ends = np.cumsum(sizes)
    batches = np.split(np.arange(ends[-1]), ends[:-1])
    shares = [share(batches, rank, processes) for rank in range(processes)]
    assert len({len(found) for found in shares}) == 1, "each exchanges gradients as often"
    everything = np.concatenate([part for found in shares for part in found])
    assert sorted(everything) == list(range(ends[-1]))
    # No part is of two batches, whose examples are of different lengths.
    owner = np.repeat(np.arange(len(sizes)), sizes)
    assert all(len({*owner[part]}) <= 1 for found in shares for part in found)
    if len(sizes) % processes == 0:
        assert all(len(found) == len(sizes) // processes for found in shares), "whole batches"


def test_the_loader_starts_at_any_step_and_leaves_the_generator_alone() -> None:
    plan = BatchPlan(Numbers(50), 8, 2, seed=0)
    before = torch.random.get_rng_state()

    def first(count: int, start: int, workers: int) -> list[list[list[int]]]:
        loader = load_steps(plan, start, workers, torch.device("cpu"))
        found = [step for step, _ in zip(loader, range(count), strict=False)]
        return [[batch.example_ids.tolist() for batch in step] for step in found]

    # Four steps an epoch.
    whole = first(10, 0, 0)
    assert whole == steps(plan, 0) + steps(plan, 1) + steps(plan, 2)[:2]
    assert first(5, 5, 0) == whole[5:]
    assert first(5, 5, 2) == whole[5:]
    assert torch.random.get_rng_state().equal(before)
