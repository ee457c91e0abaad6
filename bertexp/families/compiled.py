"""Layers that torch's inductor compiles, for the few shapes that nearly all batches have."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bertexp.families.encoder import whole_layer


class CompiledLayer:
    """``whole_layer`` compiled, once for all layers of a model and once for each shape.

    The weights stay where they are, in the model and under their names. What is computed is that
    of ``whole_layer`` to rounding; on a GPU dropout draws other masks. The last layer works at as
    many positions as there are predictions, ever other ones, and is never compiled.

    Args:
        shapes: the (examples, tokens) that are compiled, each with and without a mask of padding;
            other batches are not. Beyond 8 programs torch gives up compiling.
    """

    def __init__(self, shapes: frozenset[tuple[int, int]]) -> None:
        # What an earlier job of this process compiled would count.
        torch.compiler.reset()
        self._shapes = shapes
        self._compiled = torch.compile(whole_layer, dynamic=False, fullgraph=True)

    def __call__(self, layer: Any, hidden_BLD: Tensor, mask_B11L: Tensor | None) -> Tensor:
        is_static = tuple(hidden_BLD.shape[:2]) in self._shapes
        run = self._compiled if is_static else whole_layer
        return run(layer, hidden_BLD, mask_B11L)


def compile_layers(objective: Any, shapes: frozenset[tuple[int, int]]) -> None:
    """Have an objective train with compiled layers where a batch has one of ``shapes``."""
    objective.train_layer = CompiledLayer(shapes)
