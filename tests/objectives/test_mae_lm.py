"""An encoder that reads visible tokens only: against transformers, token by token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CONFIG_MAPPING
from transformers.modeling_outputs import BaseModelOutput

from bertexp.experiment.prepare import Data
from bertexp.objectives.learner import Learner
from bertexp.objectives.mae_lm import MaskedAutoencoding
from bertexp.validation import UserError

SMALL = ("task=mae_lm", "evaluation.evaluators=[]")


def one_by_one(model: Any, decoder: Any, ids_L: Tensor, mask_id: int, offset: int) -> Tensor:
    """Return the logits at all positions of one sequence, by the models of transformers."""
    seen = (ids_L != mask_id).nonzero().flatten()
    encoded = model.base_model(ids_L[seen][None], position_ids=seen[None] + offset)
    words = model.get_input_embeddings().weight
    whole_LD = words[mask_id].expand(len(ids_L), -1).clone()
    # States become as small as embeddings.
    whole_LD[seen] = model.config.initializer_range * encoded.last_hidden_state[0]
    decoded = decoder(
        inputs_embeds=whole_LD[None], position_ids=torch.arange(len(ids_L))[None] + offset
    ).last_hidden_state
    # The head alone: what its encoder returns is given.
    base, given = model.base_model, BaseModelOutput(decoded)
    base.forward = lambda *_, **__: given
    try:
        return model(ids_L[None]).logits[0]
    finally:
        del base.forward


@pytest.mark.parametrize("masking", ["all_mask", "bert"])
@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert", "modernbert"])
def test_its_loss_is_that_of_two_models_of_transformers(
    prepared: Callable[..., Data], small_model: Callable[..., Any], family: str, masking: str
) -> None:
    data = prepared(*SMALL, f"masking={masking}", "masking.prob=0.4")
    model = small_model(frozenset({"masked"}), f"family={family}")
    learner = Learner(model, data.task.objectives)
    batch = data.examples.batch(1, np.arange(9))
    found = learner(batch)["mae_lm"]
    found.backward()
    gradients = {n: p.grad.clone() for n, p in learner.named_parameters() if p.grad is not None}
    assert {n for n, p in learner.own.named_parameters()} <= {
        n.removeprefix("own.") for n in gradients
    }
    learner.zero_grad()

    target, mask_id = batch.targets["mae_lm"], data.tokenizer.mask_id
    decoder: Any = learner.own["mae_lm"].model
    decoder.set_input_embeddings(nn.Identity())
    offset = type(learner.family)._offset(model.config.pad_token_id)
    expected = torch.zeros(())
    rows, length = batch.input_ids_BL.shape
    for row in range(rows):
        mask_BL = batch.attention_mask_BL
        size = length if mask_BL is None else int(mask_BL[row].sum())
        ids_L = batch.input_ids_BL[row, :size]
        logits_LV = one_by_one(model, decoder, ids_L, mask_id, offset)
        own_N = target.positions_N // length == row
        at_N = target.positions_N[own_N] % length
        expected = expected + functional.cross_entropy(
            logits_LV[at_N], target.labels_N[own_N], reduction="sum"
        )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    expected.backward()
    for name, parameter in learner.named_parameters():
        if name in gradients:
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-4)


def test_the_encoder_reads_the_visible_tokens_only(
    prepared: Callable[..., Data], small_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = prepared(*SMALL, "masking.prob=0.4")
    learner = Learner(small_model(frozenset({"masked"})), data.task.objectives)
    batch = data.examples.batch(0, np.arange(16))
    read: list[Any] = []
    encode = learner.family.encode
    monkeypatch.setattr(learner.family, "encode", lambda each: read.append(each) or encode(each))
    learner(batch)
    (seen,) = read
    ids_BV, mask_id = seen.input_ids_BL, data.tokenizer.mask_id
    assert not (ids_BV[seen.attention_mask_BL.bool()] == mask_id).any()
    visible_B = (batch.input_ids_BL != mask_id).sum(1)
    assert visible_B.max() <= ids_BV.shape[1] < visible_B.max() + 8
    length = batch.input_ids_BL.shape[1]
    assert ids_BV.shape[1] / length == pytest.approx(0.6, abs=0.08)

    # The cost is that of the shorter sequences, of the decoder and of the head.
    decoder: Any = learner.own["mae_lm"]
    head = len(batch.slots_U) * learner.family.head_products(learner.family.config.vocab_size)
    expected = learner.family.products(seen) + decoder.family.products(batch) + head
    assert learner.flops(batch) == 6 * expected


def test_it_is_evaluated_on_the_bank_of_masked_language_modelling(
    prepared: Callable[..., Data],
) -> None:
    banks = [prepared(task).bank.reference.fingerprints for task in ("task=mae_lm", "task=mlm")]
    assert banks[0]["mae_lm"] == banks[1]["mlm"]


@pytest.mark.parametrize(
    ("family", "more", "line"),
    [
        ("deberta-v2", {}, "task=mae_lm: leaves out tokens, and family=deberta_v2 does not let"),
        ("electra", {"embedding_size": 8}, "task=mae_lm: its decoder reads embeddings beside"),
    ],
)
def test_where_it_makes_no_sense_it_is_refused(
    family: str, more: dict[str, Any], line: str
) -> None:
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    relative = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
    config = CONFIG_MAPPING[family](**sizes, **(relative if family == "deberta-v2" else {}), **more)
    with pytest.raises(UserError, match=line):
        MaskedAutoencoding.check(config, "task=mae_lm", is_compiled=False)


def test_layers_compiled_for_a_few_lengths_are_refused() -> None:
    with pytest.raises(UserError, match=r"hardware.compile=true: task=mae_lm has sequences of"):
        MaskedAutoencoding.check(None, "task=mae_lm", is_compiled=True)
