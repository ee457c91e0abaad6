"""Heads of any model of ``transformers``, computed by its own code for hidden states at hand."""

from __future__ import annotations

import inspect
from typing import Any, NoReturn

import torch
from torch import Tensor, nn


def run_head(model: Any, hidden_BLD: Tensor) -> Tensor:
    """Return the logits of a model whose encoder gives some hidden states."""
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    base = model.base_model
    given = BaseModelOutputWithPooling(hidden_BLD, _pooled(base, hidden_BLD))
    # For this one call its own forward pass stands behind that of the instance.
    base.forward = lambda *_, **__: given
    try:
        ids_BL = torch.zeros(hidden_BLD.shape[:2], dtype=torch.long, device=hidden_BLD.device)
        logits: Tensor = model(ids_BL).logits
    finally:
        del base.forward
    return logits


def input_of(layer: nn.Module, model: Any, hidden_BLD: Tensor) -> Tensor:
    """Return what a layer of a model's head is given, without computing the layer."""
    handle = layer.register_forward_pre_hook(_stop)
    try:
        run_head(model, hidden_BLD)
    except _Reached as reached:
        return reached.given
    finally:
        handle.remove()
    raise ValueError("its head does not call the matrix over the vocabulary")


class _Reached(Exception):  # no error: the way out of a forward pass
    def __init__(self, given: Tensor) -> None:
        self.given = given


def _stop(_: nn.Module, arguments: tuple[Tensor, ...]) -> NoReturn:
    raise _Reached(arguments[0])


def _pooled(base: Any, hidden_BLD: Tensor) -> Tensor | None:
    """Return what the encoder's own pooler makes of the first position; None if it has none."""
    pooler = getattr(base, "pooler", None)
    if isinstance(pooler, nn.Linear):
        activation = getattr(base, "pooler_activation", None) or base.activation
        pooled_BD: Tensor = activation(pooler(hidden_BLD[:, 0]))
        return pooled_BD
    return None if pooler is None else pooler(hidden_BLD)


def made_with(model_class: Any, heads: frozenset[str]) -> dict[str, Any]:
    """Return what a class is made with beside its configuration: of no heads, without pooler."""
    takes = inspect.signature(model_class.__init__).parameters
    return {"add_pooling_layer": False} if not heads and "add_pooling_layer" in takes else {}
