"""Masking that follows the model: rates by token, of which the mean is the one that is set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


def realised(lab: Any, weights_V: np.ndarray, prob: float) -> tuple[float, np.ndarray]:
    """Return the share of predicted tokens of the corpus, and that of each token."""
    examples = lab.blocks(lab.masker("adaptive", prob).following(weights_V), 100)
    hits_V, counts_V = np.zeros(lab.size), np.zeros(lab.size)
    for epoch in range(8):
        ids = np.arange(len(examples))
        ids_BL = examples.written(epoch, ids).input_ids_BL.numpy()
        predicted_BL = examples.masker.mask(ids_BL, ids, epoch).predicted_BL
        hits_V += np.bincount(ids_BL[predicted_BL], minlength=lab.size)
        counts_V += np.bincount(ids_BL[~lab.is_special[ids_BL]], minlength=lab.size)
    return hits_V.sum() / counts_V.sum(), hits_V / np.maximum(counts_V, 1)


@pytest.mark.parametrize("prob", [0.05, 0.15, 0.4, 0.8])
def test_the_rate_that_is_set_is_realised(lab: Any, prob: float) -> None:
    weights_V = np.random.default_rng(1).uniform(1 / 30, 1, lab.size)
    found, by_token_V = realised(lab, weights_V, prob)
    assert found == pytest.approx(prob, rel=0.01)
    # In proportion to the weight, unless that would be more than always.
    count_V = np.bincount(lab.corpus.tokens, minlength=lab.size)
    frequent = (count_V > 200) & ~lab.is_special
    factor = max(by_token_V[frequent] / weights_V[frequent])
    factor = np.median((by_token_V / weights_V)[frequent & (factor * weights_V < 0.9)])
    expected_V = np.minimum(factor * weights_V, 1.0)
    errors_V = 4.5 * np.sqrt(expected_V / (8 * np.maximum(count_V, 1))) + 0.03 * expected_V
    assert (abs(by_token_V - expected_V) < errors_V)[frequent].all()


def test_before_it_knows_the_model_it_masks_single_tokens(lab: Any) -> None:
    ids = np.arange(50)
    plain, adaptive = lab.blocks(lab.masker("token"), 100), lab.blocks(lab.masker("adaptive"), 100)
    for own, other in zip(
        *(vars(x.batch(0, ids)).values() for x in (plain, adaptive)), strict=True
    ):
        if hasattr(own, "tolist"):
            assert own.tolist() == other.tolist()


def test_a_frequent_token_is_among_the_extremes(lab: Any) -> None:
    weights_V = np.full(lab.size, 0.5)
    weights_V[[6, 7]] = 1.0, 0.1
    most, least = lab.masker("adaptive").following(weights_V).strategy.extremes()
    assert next(iter(most)) == 6
    assert next(iter(least)) == 7
    assert most[6] == pytest.approx(10 * least[7])
