"""AdamW for all weights, or Muon for the matrices of encoders and AdamW for all others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from bertexp.training.config import MUON, OptimizerConfig
from bertexp.validation import UserError


class MuonAndAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) for matrices, AdamW for everything else, at one learning rate.

    Muon replaces the averaged gradient of a matrix by the nearest orthogonal matrix, scaled such
    that its entries are as large as AdamW's updates, so that rates and weight decay tuned for AdamW
    suit both (Liu et al. 2025, "Muon is scalable for LLM training", section 2.2).

    Attributes:
        found_inf: whether the next step changes nothing, see ``compute_step``.
    """

    def __init__(
        self, matrices: list[nn.Parameter], others: list[dict[str, Any]], config: OptimizerConfig
    ) -> None:
        assert config.lr is not None
        self._muon = torch.optim.Muon(
            matrices,
            lr=config.lr,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
            adjust_lr_fn="match_rms_adamw",
        )
        self._adamw = _adamw(others, config)
        self.found_inf = torch.zeros(())
        super().__init__([*self._muon.param_groups, *self._adamw.param_groups], {})
        self._share()

    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update the weights; on a GPU this waits for ``found_inf``."""
        if not self.found_inf:
            self._muon.step()
            self._adamw.step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share()

    def _share(self) -> None:
        """Let both optimizers use this one's groups and states."""
        self._muon.param_groups, self._adamw.param_groups = (
            self.param_groups[:1],
            self.param_groups[1:],
        )
        self._muon.state = self._adamw.state = self.state


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer of ``optimizer.name``.

    It decays matrices and embeddings, not biases and normalisations.

    Raises:
        UserError: this torch has no Muon.
    """
    if config.name == MUON and not hasattr(torch.optim, "Muon"):
        raise UserError(f"optimizer=muon: needs torch 2.9, and this is {torch.__version__}.")
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = _encoder_matrices(model) if config.name == MUON else {}
    parameters = [parameter for parameter in parameters if parameter not in matrices]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return MuonAndAdamW([*matrices], groups, config) if matrices else _adamw(groups, config)


def _adamw(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.AdamW:
    first, second = config.betas
    assert config.lr is not None
    return torch.optim.AdamW(
        groups, lr=config.lr, betas=(first, second), eps=config.eps, fused=True
    )


def _encoder_matrices(model: nn.Module) -> dict[nn.Parameter, None]:
    """Return the matrices of all encoders in a model, without embeddings and heads, in order."""
    encoders = (each.base_model for each in model.modules() if isinstance(each, PreTrainedModel))
    layers = (layer for encoder in encoders for layer in encoder.modules())
    named = (
        layer.named_parameters(recurse=False) for layer in layers if isinstance(layer, nn.Linear)
    )
    matrices = (each for found in named for _, each in found if each.ndim == 2)
    return dict.fromkeys(each for each in matrices if each.requires_grad)
