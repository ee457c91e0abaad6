"""Running the head of any model of ``transformers`` on given hidden states, with its own code."""

from __future__ import annotations

import inspect
from typing import Any, NoReturn

import torch
from torch import Tensor, nn


def run_head(model: Any, hidden_BLD: Tensor) -> Tensor:
    """Return a model's logits if its encoder outputs ``hidden_BLD``."""
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    base = model.base_model
    given = BaseModelOutputWithPooling(hidden_BLD, _pooled(base, hidden_BLD))
    # For this call, an attribute of the instance hides the class's forward.
    base.forward = lambda *_, **__: given
    try:
        ids_BL = torch.zeros(hidden_BLD.shape[:2], dtype=torch.long, device=hidden_BLD.device)
        logits: Tensor = model(ids_BL).logits
    finally:
        del base.forward
    return logits


def input_of(layer: nn.Module, model: Any, hidden_BLD: Tensor) -> Tensor:
    """Return the input of a layer in a model's head, without computing the layer."""
    handle = layer.register_forward_pre_hook(_stop)
    try:
        run_head(model, hidden_BLD)
    except _Reached as reached:
        return reached.given
    finally:
        handle.remove()
    raise ValueError("its head does not call the matrix over the vocabulary")


class _Reached(Exception):  # not an error: leaves a forward pass early
    def __init__(self, given: Tensor) -> None:
        self.given = given


def _stop(_: nn.Module, arguments: tuple[Tensor, ...]) -> NoReturn:
    raise _Reached(arguments[0])


def _pooled(base: Any, hidden_BLD: Tensor) -> Tensor | None:
    """Return the output of the encoder's own pooler; None if it has none."""
    pooler = getattr(base, "pooler", None)
    if isinstance(pooler, nn.Linear):
        activation = getattr(base, "pooler_activation", None) or base.activation
        return activation(pooler(hidden_BLD[:, 0]))
    return None if pooler is None else pooler(hidden_BLD)


def name_of(part: nn.Module, model: nn.Module) -> str:
    """Return the dotted name of a module in a model."""
    return next(name for name, each in model.named_modules() if each is part)


def made_with(model_class: Any, heads: frozenset[str]) -> dict[str, Any]:
    """Return extra arguments of a model's constructor: no pooler for an encoder without heads."""
    takes = inspect.signature(model_class.__init__).parameters
    return {"add_pooling_layer": False} if not heads and "add_pooling_layer" in takes else {}
