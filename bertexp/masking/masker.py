"""Masked batches as a pure function of seed, epoch, example and rate."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bertexp import draws
from bertexp.masking import STRATEGIES
from bertexp.masking.config import at_share
from bertexp.masking.strategies import Context, Strategy

# Parts of a stratified distribution. Over batches of 32, the variance of the mean of uniform rates
# is a 24th of that of independent ones, with 8 parts a 22nd, with 32 a 16th.
STRATA = 16


@dataclass(frozen=True)
class Masked:
    """A batch after masking.

    Attributes:
        input_ids_BL: the model's input, shape (batch, length).
        predicted_BL: where it has to predict the original token, ``bool``.
        maskable: the number of positions that could have been predicted.
        empty: the number of sequences with such a position that drew no prediction; with
            ``masking.at_least_one`` they were given one.
        rates_B: the configured rate of each sequence.
        prob: the configured rate; the mean over maskable positions if sequences have their own.
    """

    input_ids_BL: np.ndarray
    predicted_BL: np.ndarray
    maskable: int
    empty: int
    rates_B: np.ndarray
    prob: float

    @property
    def counts(self) -> dict[str, Any]:
        """What a ``Batch`` counts, if all that is masked is predicted."""
        count = int(self.predicted_BL.sum())
        counts = {"predicted": count, "masked": count, "maskable": self.maskable}
        return counts | {"empty": self.empty, "mask_prob": self.prob}


class Masker:
    """Draws masks for batches of token ids.

    A unit of the strategy is predicted if its score / weight is below the threshold of the rate
    ``masking.prob``, and corrupted if it is below that of ``masking.corrupt_prob``, which is the
    same if null. A corrupted token becomes the mask token or a random one, or stays, in the shares
    of ``masking.replace``; other tokens stay, whether predicted or not. As both use the same
    score, the smaller set is a subset of the larger:

    - at a lower corruption rate some predicted tokens are visible (in Wettig et al. 2023 every
      predicted token is corrupted, and copies have disjoint masks);
    - at a higher one some tokens are corrupted and not predicted, as in that paper.
    """

    def __init__(self, context: Context, seed: int) -> None:
        self.config, self.tokenizer = context.config, context.tokenizer
        self._strategies: dict[str, Strategy] = {}
        for _, name in self.config.strategies:
            own = replace(context, config=replace(context.config, strategy=name))
            self._strategies[name] = STRATEGIES[name](own)
        self.strategy = self._strategies[self.config.strategy]
        self.replace, self.drawn = self.config.replace, self.config.drawn
        # All ids, and those of tokens that are not special.
        self._ids = np.arange(len(self.tokenizer.is_special_V))
        self._plain_ids = np.flatnonzero(~self.tokenizer.is_special_V)
        self.seed = seed

    def at(self, progress: float) -> Masker:
        """Return the masker at a share of the budget: its rate, strategy and replacement."""
        other, config = copy.copy(self), self.config
        rate = config.rate(progress)
        other.drawn = config.drawn if rate is None else rate
        other.replace = at_share(config.replacements, progress)
        if len(self._strategies) > 1:
            other.strategy = self._strategies[at_share(config.strategies, progress)]
        return other

    def under(self, seed: int) -> Masker:
        other = copy.copy(self)
        other.seed = seed
        return other

    def following(self, weights_V: np.ndarray) -> Masker:
        """Return the masker, as at the beginning of the budget, with a weight for each token.

        Strategies that do not adapt ignore the weights.
        """
        other = copy.copy(self)
        strategies = {name: each.following(weights_V) for name, each in self._strategies.items()}
        other._strategies, other.strategy = strategies, strategies[self.config.strategy]
        return other

    def mask(
        self, ids_BL: np.ndarray, example_ids_B: np.ndarray, epoch: int, prob: float | None = None
    ) -> Masked:
        """Mask a batch; ``ids_BL`` (``int64``, padded) is not changed.

        With ``masking.at_least_one`` a sequence without a drawn unit gets the one that would have
        been drawn at the lowest rate, corrupted like any other, so that every example has a
        prediction. ``prob`` is the rate of all sequences; None for the configured one, which may be
        a distribution: then each sequence draws a rate in each epoch.
        """
        epoch = self._epoch(epoch)
        maskable_BL = ~self.tokenizer.is_special_V[ids_BL]
        rates_B, mean = self._rates(maskable_BL, example_ids_B, epoch, prob)
        starts_BL, score_BL = self.units(ids_BL, maskable_BL, example_ids_B, epoch)
        predicted_BL = score_BL < self.strategy.threshold(rates_B)[:, None]
        empty_B = maskable_BL.any(1) & ~predicted_BL.any(1)
        given_BL = None
        if self.config.at_least_one and empty_B.any():
            first_B1 = np.take_along_axis(starts_BL, score_BL.argmin(1)[:, None], 1)
            given_BL = (starts_BL == first_B1) & maskable_BL & empty_B[:, None]
            predicted_BL |= given_BL
        corrupted_BL = predicted_BL
        if self.config.corrupt_prob is not None:
            rate_1 = np.array([self.config.corrupt_prob])
            corrupted_BL = score_BL < self.strategy.threshold(rate_1)
            if given_BL is not None:
                corrupted_BL |= given_BL
        input_ids_BL = self._replace(ids_BL, corrupted_BL, example_ids_B, epoch)
        maskable, empty = int(maskable_BL.sum()), int(empty_B.sum())
        return Masked(input_ids_BL, predicted_BL, maskable, empty, rates_B, mean)

    def _epoch(self, epoch: int) -> int:
        copies = self.config.copies if self.config.dynamic else 1
        return epoch if copies is None else epoch % copies

    def strata(self, example_ids_B: np.ndarray, epoch: int) -> np.ndarray:
        """Return which of ``STRATA`` equal parts of the distribution a sequence's rate is from.

        All are 0 unless the distribution is stratified.
        """
        if isinstance(self.drawn, float) or not self.drawn.stratified:
            return np.zeros(len(example_ids_B), dtype=np.int64)
        return (self._shares(example_ids_B, self._epoch(epoch)) * STRATA).astype(np.int64)

    def _shares(self, example_ids_B: np.ndarray, epoch: int) -> np.ndarray:
        """Return the share of sequences with a lower rate than each of these has."""
        state_B = draws.states("rate", self.seed, epoch, example_ids_B)
        return draws.uniform(state_B)

    def _rates(
        self, maskable_BL: np.ndarray, example_ids_B: np.ndarray, epoch: int, prob: float | None
    ) -> tuple[np.ndarray, float]:
        """Return the rate of each sequence, and that of all their maskable positions."""
        drawn = self.drawn if prob is None else prob
        if isinstance(drawn, float):
            return np.full(len(example_ids_B), drawn), drawn
        rates_B = drawn.quantile(self._shares(example_ids_B, epoch))
        maskable_B = maskable_BL.sum(1)
        return rates_B, float(rates_B @ maskable_B / max(maskable_B.sum(), 1))

    def units(
        self, ids_BL: np.ndarray, maskable_BL: np.ndarray, example_ids_B: np.ndarray, epoch: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the start of each position's unit, and the unit's score / weight.

        The latter is infinite where nothing may be predicted.
        """
        position_L = np.arange(ids_BL.shape[1])
        states_B = draws.states("unit", self.seed, epoch, example_ids_B)
        begins_BL = self.strategy.begins(ids_BL, maskable_BL, states_B)
        starts_BL = np.maximum.accumulate(np.where(begins_BL, position_L, 0), axis=1)
        example_B1 = draws.states("mask", self.seed, epoch, example_ids_B)[:, None]
        states_BL = draws.combine(example_B1, position_L)
        states_BL = np.take_along_axis(states_BL, starts_BL, 1)
        if self.config.draw == "budget":
            states_BL = _spread(states_BL, starts_BL, maskable_BL)
        score_BL = draws.uniform(states_BL)
        weights_BL = self.strategy.weights(ids_BL, maskable_BL)
        if weights_BL is not None:
            score_BL /= weights_BL
        score_BL[~maskable_BL] = np.inf
        return starts_BL, score_BL

    def _replace(
        self, ids_BL: np.ndarray, corrupted_BL: np.ndarray, example_ids_B: np.ndarray, epoch: int
    ) -> np.ndarray:
        random_ids = self._ids if self.replace.special else self._plain_ids
        rows_N, columns_N = np.nonzero(corrupted_BL)
        state_N = draws.combine(
            draws.states("replace", self.seed, epoch, example_ids_B[rows_N]), columns_N
        )
        choice_N = draws.uniform(state_N)
        random_N = random_ids[draws.integers(draws.combine(state_N, 0), len(random_ids))]
        mask, random = self.replace.mask, self.replace.random
        new_N = np.where(choice_N < mask, self.tokenizer.mask_id, random_N)
        changed_N = choice_N < mask + random
        input_ids_BL = ids_BL.copy()
        input_ids_BL[rows_N[changed_N], columns_N[changed_N]] = new_N[changed_N]
        return input_ids_BL


def _spread(states_BL: np.ndarray, starts_BL: np.ndarray, maskable_BL: np.ndarray) -> np.ndarray:
    """Return new states, spread evenly over the tokens of each sequence.

    Systematic sampling in a random order (Madow 1949; Hartley and Rao 1962): the units of a
    sequence are laid around a circle in the order of their states, each as long as its share of
    the maskable tokens, and the circle is turned by a random angle. A unit's new state is the place
    where it begins. Each is still uniform, so a unit is below any rate with exactly that
    probability, whatever its length and position. But the units below a rate now form an arc of
    the circle, and their tokens differ from the budget by less than a unit at each end.

    Args:
        states_BL: random ``uint64``, equal within a unit.
    """
    last = np.uint64(2**64 - 1)
    order_BL = np.where(maskable_BL, states_BL, last).argsort(1)
    ordered_BL = np.take_along_axis(starts_BL, order_BL, 1)
    position_L = np.arange(starts_BL.shape[1])
    opens_BL = np.diff(ordered_BL, prepend=-1) != 0
    before_BL = np.maximum.accumulate(np.where(opens_BL, position_L, 0), axis=1)
    # Integers wrap around as the circle does.
    share_B1 = last // np.maximum(maskable_BL.sum(1, dtype=np.uint64), 1)[:, None]
    turned_BL = before_BL.astype(np.uint64) * share_B1 - draws.mix(states_BL[:, :1])
    spread_BL = np.empty_like(states_BL)
    np.put_along_axis(spread_BL, order_BL, turned_BL, 1)
    return spread_BL
