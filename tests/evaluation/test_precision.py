"""A model is evaluated in the precision it was trained in, except where sentences are compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from bertexp.evaluation.evaluator import evaluate_fully
from bertexp.experiment.prepare import Data
from bertexp.objectives.learner import Learner

ON = ("evaluation=diffusion", "evaluation.pseudo_perplexity=10", "evaluation.probes=[]")


def measured(data: Data, model: Any) -> dict[str, float]:
    learner = Learner(model, data.task.objectives)
    return evaluate_fully(learner, data.bank, data.evaluators, torch.device("cpu")).metrics


def test_losses_are_those_of_products_in_the_precision_of_training(
    prepared: Callable[..., Data], untrained: Callable[..., Any]
) -> None:
    exact, rounded = (prepared(*ON, f"hardware.precision={name}") for name in ("fp32", "bf16"))
    model = untrained(exact).bfloat16().float()
    expected, found = measured(exact, model), measured(rounded, model)
    names = {"eval/loss", "eval/elbo", "eval/pseudo_perplexity", "eval/bits_per_byte"}
    assert names <= found.keys() == expected.keys()
    for name in names:
        assert found[name] != expected[name]
        assert found[name] == pytest.approx(expected[name], rel=2e-3)
