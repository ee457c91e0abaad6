"""Dropout that is cheap on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# Values of a random 16-bit number: probabilities are rounded to multiples of 1 / LEVELS.
LEVELS = 1 << 16


class Dropout(nn.Dropout):
    """``torch.nn.Dropout`` that on a CPU masks four elements with one random number.

    On a CPU torch draws each element's mask separately on a single core, which takes a tenth of a
    step. Here an element is dropped if its 16 bits of a 64-bit draw from the same generator are
    below ``p`` (0.1 becomes 0.100006), so a checkpoint only needs the generator's state.
    """

    def forward(self, hidden: Tensor) -> Tensor:
        if not self.training or self.p in (0, 1) or hidden.device.type != "cpu":
            return functional.dropout(hidden, self.p, self.training)
        return _Dropout.apply(hidden, self.p)  # type: ignore[no-untyped-call]


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, p: float) -> Tensor:
        draws = torch.empty(-(-hidden.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
        level = draws.view(torch.int16)[: hidden.numel()].view(hidden.shape)
        kept = level >= round(p * LEVELS) - LEVELS // 2
        ctx.save_for_backward(kept)
        ctx.scale = 1 / (1 - p)
        return (hidden * kept).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return (gradient * kept).mul_(ctx.scale), None


def use_fast_dropout(model: nn.Module) -> None:
    """Replace every ``torch.nn.Dropout`` in ``model`` with ``Dropout``."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p).train(child.training))
