"""The effective rank of representations against a singular value decomposition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from bertexp.evaluation.effective_rank import EffectiveRank
from bertexp.experiment.prepare import Data
from bertexp.objectives.learner import Learner

ON = "evaluation.evaluators=[effective_rank]"


def rank(matrix_ND: np.ndarray) -> float:
    """Roy and Vetterli 2007, definition 1."""
    values = np.linalg.svd(matrix_ND.astype(np.float64), compute_uv=False)
    return float(np.exp(entropy(values / values.sum())))


def measured(data: Data, model: Any) -> tuple[EffectiveRank, dict[str, float]]:
    (evaluator,) = data.evaluators
    assert isinstance(evaluator, EffectiveRank)
    learner = Learner(model, data.task.objectives)
    return evaluator, dict(evaluator.measure(learner, torch.device("cpu")))


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "deberta_v2"])
def test_it_is_that_of_all_layers_of_transformers(
    prepared: Callable[..., Data], small_model: Callable[..., Any], family: str
) -> None:
    data = prepared(ON)
    model = small_model(frozenset({"masked"}), f"family={family}").eval()
    evaluator, metrics = measured(data, model)
    by_layer: dict[str, list[list[np.ndarray]]] = {"tokens": [], "masks": []}
    for batch in evaluator.masked:
        (target,) = batch.targets.values()
        written_BL = batch.input_ids_BL.clone()
        assert (written_BL.view(-1)[target.positions_N] == data.tokenizer.mask_id).all()
        written_BL.view(-1)[target.positions_N] = target.labels_N
        for kind, ids_BL in {"tokens": written_BL, "masks": batch.input_ids_BL}.items():
            with torch.no_grad():
                states = model.base_model(
                    ids_BL, attention_mask=batch.attention_mask_BL, output_hidden_states=True
                ).hidden_states
            by_layer[kind].append([s.flatten(0, 1)[target.positions_N].numpy() for s in states])
    expected = {
        kind: [rank(np.concatenate(parts)) for parts in zip(*found, strict=True)]
        for kind, found in by_layer.items()
    }
    assert evaluator.summary()["effective_rank"].keys() == expected.keys()
    for kind, ranks in evaluator.summary()["effective_rank"].items():
        assert ranks == pytest.approx(expected[kind], rel=1e-4)
        assert all(1 <= each <= 32 for each in ranks)
    assert metrics == pytest.approx(
        {
            "eval/effective_rank": expected["tokens"][-1],
            "eval/effective_rank@mask": expected["masks"][-1],
        },
        rel=1e-4,
    )
    assert evaluator.details()


def test_a_model_that_never_reads_masks_has_only_that_of_tokens(
    prepared: Callable[..., Data], small_model: Callable[..., Any]
) -> None:
    data = prepared(ON, "task=nsp")
    _, metrics = measured(data, small_model(frozenset({"pair"})))
    assert [*metrics] == ["eval/effective_rank"]
