"""Muon for the matrices of the encoder's layers, and AdamW for everything else."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    BertConfig,
    BertForPreTraining,
    DebertaV2Config,
    DebertaV2ForMaskedLM,
    ElectraConfig,
    ElectraForMaskedLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PreTrainedModel,
)

from bertexp.config import Config
from bertexp.training.optimizers import build_optimizer
from bertexp.validation import UserError

SIZES: dict[str, Any] = {
    **{"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2},
    **{"num_attention_heads": 2, "max_position_embeddings": 32, "pad_token_id": 0},
}
# The last pattern that each model's matrices have in their names; written by hand.
MATRICES: dict[type[PreTrainedModel], tuple[Any, str]] = {
    BertForPreTraining: (BertConfig(**SIZES), r"encoder\.layer\..*\.weight|pooler\.dense\.weight"),
    DebertaV2ForMaskedLM: (
        DebertaV2Config(**SIZES, relative_attention=True, pos_att_type=["p2c"]),
        r"encoder\.layer\..*\.weight",
    ),
    ElectraForMaskedLM: (
        ElectraConfig(**SIZES, embedding_size=8),
        r"encoder\.layer\..*\.weight|embeddings_project\.weight",
    ),
    ModernBertForMaskedLM: (
        ModernBertConfig(**SIZES, global_attn_every_n_layers=1),
        r"layers\..*\.weight",
    ),
}
RATE, DECAY = 0.01, 0.1


def stepped(
    config: Config, model: PreTrainedModel, gradients: list[dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Return a copy of a model's weights after a step with each of some gradients."""
    copied = deepcopy(model)
    optimizer = build_optimizer(config.optimizer, copied)
    for each in gradients:
        for name, weight in copied.named_parameters():
            weight.grad = each[name].clone()
        optimizer.step()
    return dict(copied.named_parameters())


@pytest.mark.parametrize("kind", MATRICES, ids=lambda kind: kind.__name__)
def test_matrices_of_layers_get_muon_and_all_else_adamw(
    kind: type[PreTrainedModel], experiment_config: Callable[..., Config]
) -> None:
    torch.manual_seed(0)
    settings, pattern = MATRICES[kind]
    model = kind(settings)
    gradients = [
        {name: torch.randn_like(weight) for name, weight in model.named_parameters()}
        for _ in range(3)
    ]
    overrides = (f"optimizer.lr={RATE}", f"optimizer.weight_decay={DECAY}")
    adamw = stepped(experiment_config(*overrides), model, gradients)
    muon = stepped(experiment_config("optimizer=muon", *overrides), model, gradients)
    matrices = {
        name
        for name, weight in model.named_parameters()
        if re.search(pattern, name) and weight.ndim == 2
    }
    assert len(matrices) >= 2 * 4
    assert {name for name in adamw if not torch.equal(adamw[name], muon[name])} == matrices


def test_a_matrix_moves_along_the_orthogonal_matrix_nearest_to_its_gradient(
    experiment_config: Callable[..., Config],
) -> None:
    torch.manual_seed(0)
    model = BertForPreTraining(BertConfig(**SIZES))
    gradient = {name: torch.randn_like(weight) for name, weight in model.named_parameters()}
    overrides = (f"optimizer.lr={RATE}", f"optimizer.weight_decay={DECAY}")
    after = stepped(experiment_config("optimizer=muon", *overrides), model, [gradient])
    for part in ("attention.self.query", "intermediate.dense", "output.dense"):
        name = f"bert.encoder.layer.1.{part}.weight"
        before = model.get_parameter(name)
        left, _, right = torch.linalg.svd(gradient[name], full_matrices=False)
        moved = (1 - RATE * DECAY) * before - after[name]
        # Liu et al. 2025, equation 4.
        scaled = (moved / (RATE * 0.2 * max(before.shape) ** 0.5)).detach()
        found = left.T @ scaled @ right.T
        # Jordan's five iterations end with singular values between 0.7 and 1.2, in bfloat16.
        assert (found.diagonal() > 0.6).all() and (found.diagonal() < 1.3).all()
        torch.testing.assert_close(found, torch.diag(found.diagonal()), rtol=0, atol=0.05)


def test_a_torch_without_muon_is_named(
    experiment_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    config = experiment_config("optimizer=muon").optimizer
    with pytest.raises(UserError, match=r"^optimizer=muon: needs torch 2\.9, and this is "):
        build_optimizer(config, BertForPreTraining(BertConfig(**SIZES)))
