"""Rates that follow the model: their sums, their updates, and when batches are made with them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from bertexp.experiment.prepare import Data
from bertexp.masking.config import AdaptiveKeys
from bertexp.objectives.learner import Learner
from bertexp.objectives.masked_loss import Losses
from bertexp.objectives.vocabulary_loss import AdaptiveRates
from bertexp.training.loading import load_steps
from bertexp.training.plan import BatchPlan
from bertexp.validation import UserError

V = 50


def drawn(count: int, seed: int) -> tuple[torch.Tensor, Losses]:
    generator = torch.Generator().manual_seed(seed)
    labels_N = torch.randint(V // 2, (count,), generator=generator)
    each_N = 9 * torch.rand(count, generator=generator)
    return labels_N, Losses(each_N.sum(), each_N, each_N, each_N < 3)


def recording(follows: str) -> AdaptiveRates:
    return AdaptiveRates(V, AdaptiveKeys(follows=follows))


@pytest.mark.parametrize("follows", ["accuracy", "loss"])
def test_weights_are_those_of_the_formula_however_predictions_are_split(follows: str) -> None:
    whole, split = recording(follows), recording(follows)
    expected_V = np.ones(V)
    for seed in range(3):
        labels_N, found = drawn(400, seed)
        whole.add(labels_N, found)
        for part in torch.randperm(400).split(37):
            split.add(labels_N[part], Losses(*(found[0], *(each[part] for each in found[1:]))))
        for token in set(labels_N.tolist()):
            own = labels_N == token
            count, wrong = int(own.sum()), int((~found.hits_N[own]).sum())
            difficulty = (wrong + 0.5) / (count + 1)
            if follows == "loss":
                guess = np.log(V)
                difficulty = (float(found.each_N[own].sum()) + guess) / (count + 1) / guess
            expected_V[token] = 0.2 * expected_V[token] + 0.8 * min(difficulty, 1.0)
        whole.update()
        split.update()
        assert torch.equal(whole.weights_V, split.weights_V)
        np.testing.assert_allclose(whole.table(), np.maximum(expected_V, 1 / 30), rtol=1e-4)
    assert (whole.table()[V // 2 :] == 1).all()  # never predicted


def test_a_loss_that_is_not_finite_spoils_nothing() -> None:
    rates = recording("loss")
    labels_N, found = drawn(20, 0)
    found.each_N[:2] = torch.tensor([float("nan"), float("inf")])
    rates.add(labels_N, found)
    rates.update()
    assert ((rates.weights_V > 0) & (rates.weights_V <= 1)).all()


def steps(learner: Learner, data: Data, first: int, count: int, workers: int = 0) -> list[Any]:
    """Return the inputs of so many steps, with the weights after each."""
    plan, rates, found = BatchPlan(data.examples, 8, 1, seed=0), learner.rates, []
    assert rates is not None
    loader = load_steps(plan, first, workers, torch.device("cpu"), rates=rates)
    for (batch,) in itertools.islice(loader, count):
        with torch.no_grad():
            learner(batch)
        found.append((batch.input_ids_BL.tolist(), rates.table().tolist()))
    return found


def test_a_step_has_the_rates_of_the_last_update_whatever_is_made_ahead(
    prepared: Callable[..., Data], small_model: Callable[..., Any]
) -> None:
    data = prepared("masking.strategy=adaptive", "masking.adaptive.every=3")
    plain, ahead = (
        steps(Learner(small_model("BertForMaskedLM"), data.task.objectives), data, 0, 8, workers)
        for workers in (0, 2)
    )
    assert plain == ahead
    tables = [table for _, table in plain]
    assert tables[0] == tables[2] != tables[3] == tables[5] != tables[6]


@pytest.mark.parametrize("stop", [4, 6])
def test_a_run_that_resumes_has_the_same_rates(
    prepared: Callable[..., Data], small_model: Callable[..., Any], stop: int
) -> None:
    """In the middle of an interval and at its end, from what a checkpoint has."""
    data = prepared("masking.strategy=adaptive", "masking.adaptive.every=3")
    whole, first, resumed = (
        Learner(small_model("BertForMaskedLM"), data.task.objectives) for _ in range(3)
    )
    expected = steps(whole, data, 0, 9)
    begun = steps(first, data, 0, stop)
    resumed.own.load_state_dict(first.own_state)
    assert begun + steps(resumed, data, stop, 9 - stop) == expected


def test_it_is_refused_where_nothing_follows(prepared: Callable[..., Data]) -> None:
    with pytest.raises(UserError, match=r"masking\.strategy='?adaptive"):
        prepared("task=mntp", "masking.strategy=adaptive")
