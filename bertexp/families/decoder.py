"""Layers of a family on top of a model, which read states in place of tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertexp.families.base import Family
from bertexp.families.dropout import draw_masks_fast
from bertexp.families.inputs import Inputs


class Decoder(nn.Module):
    """A few layers like a model's, with position embeddings of their own.

    Args:
        family: that of the model.
        layers: their number.

    Attributes:
        model: an encoder of ``transformers`` without a vocabulary.
        family: its family.
    """

    def __init__(self, family: Family, layers: int) -> None:
        super().__init__()
        self.model: Any = family.build(_config(family, layers), frozenset())
        self._given = Given()
        self.model.set_input_embeddings(self._given)
        self.family = Family.of(self.model)
        self.family.initialize(family.initialization)
        draw_masks_fast(self.model)

    def forward(self, states_SD: Tensor, rows_BL: Tensor, inputs: Inputs) -> Tensor:
        """Return the last states at used positions.

        Args:
            rows_BL: the row of ``states_SD`` at each position.
            inputs: the rest of the input.
        """
        positions_BL = inputs.positions_BL
        if positions_BL is None:
            # Not derived from the ids, which are not tokens.
            positions_BL = torch.arange(rows_BL.shape[1], device=rows_BL.device).expand_as(rows_BL)
        self._given.states_SD = states_SD
        try:
            given = replace(inputs, input_ids_BL=rows_BL, positions_BL=positions_BL)
            return self.family.encode(given)
        finally:
            self._given.states_SD = None


def _config(family: Family, layers: int) -> Any:
    """Return the configuration of an encoder with other layers and hardly any vocabulary."""
    known = family.config.to_dict()
    # Some list the kind of each layer, and a list of another length would not fit.
    known.pop("layer_types", None)
    sizes = {"num_hidden_layers": layers, "vocab_size": (known.get("pad_token_id") or 0) + 1}
    names = family.config.attribute_map
    known |= {names.get(name, name): size for name, size in sizes.items()}
    return type(family.config)(**known)


class Given(nn.Module):
    """Stands in for an embedding table, with rows that are given for one call."""

    states_SD: Tensor | None = None

    def forward(self, rows: Tensor) -> Tensor:
        assert self.states_SD is not None
        return functional.embedding(rows, self.states_SD)
