"""Masking: the rate that was asked for, never a special token, the same mask in any batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bertexp.masking.config import MaskingConfig, ReplaceConfig
from bertexp.masking.masker import Masked, Masker
from bertexp.validation import UserError

PAD, UNK, CLS, SEP, MASK = range(5)
VOCABULARY = 200
IS_SPECIAL = np.arange(VOCABULARY) < 5
ALARM = 1e-9

SEEDS = st.integers(0, 2**32 - 1)
RATES = st.floats(0.001, 0.999)
# Rows of ordinary tokens and of [UNK] between them, with [CLS] and [SEP], to be padded.
ROWS = st.lists(
    st.lists(st.integers(4, VOCABULARY - 1).map(lambda i: UNK if i == 4 else i), max_size=40),
    min_size=1,
    max_size=8,
)


def masker(
    prob: float, seed: int = 0, replace: tuple[float, float, float] = (0.8, 0.1, 0.1)
) -> Masker:
    shares = ReplaceConfig(mask=replace[0], random=replace[1], keep=replace[2])
    config = MaskingConfig(prob=prob, strategy="token", replace=shares)
    return Masker(config, IS_SPECIAL, MASK, seed)


def padded(rows: list[list[int]], width: int = 0) -> np.ndarray:
    width = max([width, *(len(row) + 2 for row in rows)])
    full = [[CLS, *row, SEP] + [PAD] * (width - len(row) - 2) for row in rows]
    return np.array(full, dtype=np.int64)


def whole(count: int, width: int = 128) -> np.ndarray:
    """A batch of ordinary tokens, all different from their neighbours."""
    return padded((5 + np.arange(count * width).reshape(count, width) % (VOCABULARY - 5)).tolist())


def as_likely(hits: int, trials: int, probability: float) -> bool:
    return stats.binomtest(hits, trials, probability).pvalue > ALARM


@settings(deadline=None, max_examples=150)
@given(rows=ROWS, prob=RATES, seed=SEEDS, epoch=st.integers(0, 100))
def test_specials_stay_and_every_sequence_has_a_prediction(
    rows: list[list[int]], prob: float, seed: int, epoch: int
) -> None:
    ids = padded(rows)
    before = ids.copy()
    masked = masker(prob, seed).mask(ids, np.arange(len(rows)), epoch)
    maskable = ids > MASK
    assert (ids == before).all()
    assert not (masked.predicted_BL & ~maskable).any()
    assert (masked.predicted_BL.any(1) == maskable.any(1)).all()
    assert masked.maskable == maskable.sum()
    assert (masked.input_ids_BL[~masked.predicted_BL] == ids[~masked.predicted_BL]).all()
    put_in = masked.input_ids_BL[masked.predicted_BL]
    assert ((put_in == MASK) | (put_in > MASK)).all()


@settings(deadline=None, max_examples=25, derandomize=True)
@given(prob=RATES, seed=SEEDS, epoch=st.integers(0, 100))
def test_the_rate_is_the_one_asked_for(prob: float, seed: int, epoch: int) -> None:
    # Rows so long that one without a draw, which would get one, is rare.
    masked = masker(prob, seed).mask(whole(8, 20_000), np.arange(8), epoch)
    assert masked.maskable == 160_000
    assert as_likely(int(masked.predicted_BL.sum()), masked.maskable, prob)
    # As often at the beginning of a sequence as at its end, in the first row as in the last.
    for part in (masked.predicted_BL[:, 1:10_001], masked.predicted_BL[0, 1:-1]):
        assert as_likely(int(part.sum()), part.size, prob)


SHARES = st.lists(st.floats(0, 1), min_size=2, max_size=2).map(sorted)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(cuts=SHARES, seed=SEEDS)
def test_shares_of_what_is_put_in_are_those_asked_for(cuts: list[float], seed: int) -> None:
    mask, random, keep = cuts[0], cuts[1] - cuts[0], 1 - cuts[1]
    ids = whole(64, 500)
    masked = masker(0.5, seed, (mask, random, keep)).mask(ids, np.arange(64), epoch=0)
    truth, seen = ids[masked.predicted_BL], masked.input_ids_BL[masked.predicted_BL]
    count = len(truth)
    ordinary = VOCABULARY - 5
    assert as_likely(int((seen == MASK).sum()), count, mask)
    # A random token is the old one once in a vocabulary.
    assert as_likely(int((seen == truth).sum()), count, keep + random / ordinary)
    others = seen[(seen != MASK) & (seen != truth)]
    if len(others) > 20 * ordinary:
        assert stats.chisquare(np.bincount(others, minlength=VOCABULARY)[5:]).pvalue > ALARM


def test_devlins_shares_by_default() -> None:
    ids = whole(256)
    masked = masker(0.15).mask(ids, np.arange(256), epoch=0)
    truth, seen = ids[masked.predicted_BL], masked.input_ids_BL[masked.predicted_BL]
    assert len(truth) > 4000
    assert as_likely(int((seen == MASK).sum()), len(truth), 0.8)
    assert as_likely(int((seen == truth).sum()), len(truth), 0.1 + 0.1 / (VOCABULARY - 5))


@settings(deadline=None, max_examples=80)
@given(
    rows=ROWS, prob=RATES, seed=SEEDS, data=st.data(), width=st.integers(0, 80),
    first=st.integers(0, 2**40),
)  # fmt: skip
def test_the_mask_of_an_example_does_not_depend_on_its_batch(
    rows: list[list[int]], prob: float, seed: int, data: st.DataObject, width: int, first: int
) -> None:
    example_ids = first + np.arange(len(rows))
    together = masker(prob, seed).mask(padded(rows), example_ids, epoch=3)
    order = data.draw(st.permutations(range(len(rows))))
    chosen = order[: data.draw(st.integers(1, len(rows)))]
    ids = padded([rows[i] for i in chosen], width)
    apart = masker(prob, seed).mask(ids, example_ids[chosen], epoch=3)
    for row, index in enumerate(chosen):
        length = len(rows[index]) + 2
        for name in ("input_ids_BL", "predicted_BL"):
            alone, among = getattr(apart, name)[row], getattr(together, name)[index]
            assert (alone[:length] == among[:length]).all()


@settings(deadline=None, max_examples=80)
@given(rows=ROWS, rates=st.lists(RATES, min_size=2, max_size=2).map(sorted), seed=SEEDS)
def test_masks_are_nested_across_rates(
    rows: list[list[int]], rates: list[float], seed: int
) -> None:
    ids, examples = padded(rows), np.arange(len(rows))
    few, many = (masker(rate, seed).mask(ids, examples, epoch=0) for rate in rates)
    assert not (few.predicted_BL & ~many.predicted_BL).any()
    # What stands at a position that both predict is the same too.
    both = few.predicted_BL
    assert (few.input_ids_BL[both] == many.input_ids_BL[both]).all()


def overlap(first: Masked, second: Masked) -> tuple[int, int]:
    return int((first.predicted_BL & second.predicted_BL).sum()), int(first.predicted_BL.sum())


def test_other_seeds_epochs_and_examples_have_unrelated_masks() -> None:
    ids, examples = whole(64), np.arange(64)
    here = masker(0.3, seed=1).mask(ids, examples, epoch=1)
    again = masker(0.3, seed=1).mask(ids, examples, epoch=1)
    assert (here.predicted_BL == again.predicted_BL).all()
    assert (here.input_ids_BL == again.input_ids_BL).all()
    others = [
        masker(0.3, seed=2).mask(ids, examples, epoch=1),
        masker(0.3, seed=1).mask(ids, examples, epoch=2),
        masker(0.3, seed=2).mask(ids, examples, epoch=0),
        masker(0.3, seed=0).mask(ids, examples, epoch=2),
        masker(0.3, seed=1).mask(ids, examples + 1, epoch=1),
        masker(0.3, seed=1).mask(ids, examples + 64, epoch=1),
    ]
    for other in others:
        assert as_likely(*overlap(here, other), 0.3)


def test_an_unknown_strategy_names_those_that_exist() -> None:
    replace = ReplaceConfig(mask=1, random=0, keep=0)
    with pytest.raises(UserError, match=r"^masking\.strategy=tokens: .* mean 'token'\?$"):
        MaskingConfig(prob=0.15, strategy="tokens", replace=replace)
