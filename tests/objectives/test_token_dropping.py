"""Tokens that are left out: which ones, by which losses, and what that costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import CONFIG_MAPPING

from bertexp.experiment.prepare import Data
from bertexp.objectives.learner import Learner
from bertexp.objectives.token_dropping import TokenDropping
from bertexp.validation import UserError

SMALL = ("task=token_dropping", "evaluation.evaluators=[]", "masking=all_mask")


def test_unimportant_tokens_are_left_out_and_losses_are_followed(
    prepared: Callable[..., Data], small_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = prepared(*SMALL)
    learner = Learner(
        small_model(frozenset({"masked"}), "model.num_hidden_layers=4"), data.task.objectives
    )
    table: Any = learner.own["token_dropping"]
    expected_V = np.full(learner.family.config.vocab_size, 10.0)
    read: list[Any] = []
    encode = learner.family.encode
    monkeypatch.setattr(learner.family, "encode", lambda each: read.append(each) or encode(each))
    for epoch in range(3):
        batch = data.examples.batch(epoch, np.arange(8))
        loss = learner(batch)["token_dropping"]
        seen = read.pop()
        length = batch.input_ids_BL.shape[1]
        count = -(-(length // 2) // 8) * 8
        assert seen.kept_BK.shape == (8, count)
        for row in range(8):
            ids_L = batch.input_ids_BL[row].numpy()
            special_L = data.tokenizer.is_special_V[ids_L]
            importance_L = np.where(special_L, 1e4, expected_V[ids_L])
            if batch.attention_mask_BL is not None:
                importance_L[batch.attention_mask_BL[row].numpy() == 0] = -1
            kept = np.zeros(length, dtype=bool)
            kept[seen.kept_BK[row].numpy()] = True
            assert importance_L[kept].min() >= importance_L[~kept].max() - 1e-4

        # The loss is that of the states of such layers, and the average moves once for each token.
        target = batch.targets["token_dropping"]
        with torch.no_grad():
            logits_NV = learner.family.masked_logits(encode(seen)[target.used][: len(target)])
            each_N = functional.cross_entropy(logits_NV, target.labels_N, reduction="none")
        torch.testing.assert_close(loss, each_N.sum())
        for token in set(target.labels_N.tolist()):
            mean = float(each_N[target.labels_N == token].mean())
            expected_V[token] = 0.995 * expected_V[token] + 0.005 * mean
        np.testing.assert_allclose(table.losses_V, expected_V, rtol=1e-5)

    # Evaluation leaves nothing out; the cost of training is that of the shorter layers.
    learner.eval().logits(batch)
    assert read.pop().kept_BK is None
    head = len(batch.slots_U) * learner.family.head_products(learner.family.config.vocab_size)
    family = learner.family
    assert learner.flops(batch) == pytest.approx(6 * (family.products(seen) + head))
    assert family.products(seen) < 0.85 * family.products(replace(seen, kept_BK=None))


@pytest.mark.parametrize(
    ("family", "layers", "line"),
    [
        ("modernbert", 4, "task=token_dropping: needs a family with BERT's layers"),
        ("bert", 2, "model.num_hidden_layers=2: must be at least 4 for task=token_dropping"),
    ],
)
def test_where_it_makes_no_sense_it_is_refused(family: str, layers: int, line: str) -> None:
    config = CONFIG_MAPPING[family](num_hidden_layers=layers)
    with pytest.raises(UserError, match=line):
        TokenDropping.check(config, "task=token_dropping", is_compiled=False)
