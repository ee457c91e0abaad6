"""Draws: uniform, unrelated to their neighbours, and functions of nothing but their counters."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bertexp import draws

SEEDS = st.integers(0, 2**32 - 1)
# Chance of a false alarm of one statistical check.
ALARM = 1e-9
COUNT = 20_000


@settings(deadline=None, max_examples=30, derandomize=True)
@given(seed=SEEDS, epoch=st.integers(0, 1000), first=st.integers(0, 2**40))
def test_draws_of_neighbouring_counters_are_uniform_and_unrelated(
    seed: int, epoch: int, first: int
) -> None:
    state = draws.combine(draws.key("test", seed, epoch), np.arange(first, first + COUNT))
    values = draws.uniform(state)
    assert values.min() >= 0
    assert values.max() < 1
    assert stats.kstest(values, "uniform").pvalue > ALARM
    pairs = np.histogram2d(values[:-1:2], values[1::2], bins=10, range=[[0, 1], [0, 1]])[0]
    assert stats.chisquare(pairs.ravel()).pvalue > ALARM
    bits = (state[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    assert all(stats.binomtest(int(ones), COUNT).pvalue > ALARM for ones in bits.sum(0))


@settings(deadline=None, max_examples=20, derandomize=True)
@given(seed=SEEDS, epoch=st.integers(0, 1000))
def test_neighbouring_seeds_epochs_and_purposes_are_unrelated(seed: int, epoch: int) -> None:
    counters = np.arange(COUNT)

    def drawn(purpose: str, seed: int, epoch: int) -> np.ndarray:
        return draws.uniform(draws.combine(draws.key(purpose, seed, epoch), counters))

    values = drawn("mask", seed, epoch)
    others = [drawn("mask", seed + 1, epoch), drawn("mask", seed, epoch + 1)]
    # Seed and epoch must not be added up, or epoch 1 of seed 0 were epoch 0 of seed 1.
    others += [drawn("replace", seed, epoch), drawn("mask", seed + 1, max(epoch - 1, 0))]
    for other in others:
        assert stats.pearsonr(values, other).pvalue > ALARM
        assert (values != other).all()


@given(
    seed=SEEDS,
    counters=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=20),
    bound=st.integers(1, 2**31),
)
def test_a_draw_depends_on_its_own_counter_only(seed: int, counters: list[int], bound: int) -> None:
    key = draws.key("test", seed, 0)
    together = draws.integers(draws.combine(key, np.array(counters)), bound)
    alone = [draws.integers(draws.combine(key, counter), bound)[0] for counter in counters]
    assert together.tolist() == alone
    assert ((together >= 0) & (together < bound)).all()


def test_every_integer_below_the_bound_is_as_likely() -> None:
    state = draws.combine(draws.key("test", 0, 0), np.arange(70_000))
    counts = np.bincount(draws.integers(state, 7), minlength=7)
    assert len(counts) == 7
    assert stats.chisquare(counts).pvalue > ALARM
