"""Layers that leave out tokens, against transformers' own layers position by position."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bertexp.families.base import Family
from bertexp.families.inputs import Inputs
from bertexp.objectives.batch import attention_mask


def reference(model: Any, inputs: Inputs, row: int) -> Tensor:
    """Return the last states of a sequence by the layers of transformers, with masks by hand."""
    assert inputs.kept_BK is not None
    mask_BL = inputs.attention_mask_BL
    size = inputs.input_ids_BL.shape[1] if mask_BL is None else int(mask_BL[row].sum())
    kept = [column for column in inputs.kept_BK[row].tolist() if column < size]
    embedded_1LD = model.base_model.embeddings(inputs.input_ids_BL[row : row + 1, :size])
    layers = model.base_model.encoder.layer
    half = len(layers) // 2

    def run(layer: Any, states_1LD: Tensor, readers: list[int], read: list[int]) -> Tensor:
        allowed_LL = torch.zeros(size, size, dtype=torch.bool)
        for reader in readers:
            allowed_LL[reader, read] = True
        for other in set(range(size)) - set(readers):
            allowed_LL[other, other] = True
        out = layer(states_1LD, attention_mask=allowed_LL[None, None])
        out = out[0] if isinstance(out, tuple) else out
        changed = states_1LD.clone()
        changed[:, readers] = out[:, readers]
        return changed

    everything = list(range(size))
    states = embedded_1LD
    for layer in layers[: half - 1]:
        states = run(layer, states, everything, everything)
    states = run(layers[half - 1], states, kept, everything)
    for layer in layers[half:-1]:
        states = run(layer, states, kept, kept)
    return run(layers[-1], states, everything, everything)[0]


@pytest.mark.parametrize("family", ["bert", "roberta", "electra"])
@pytest.mark.parametrize("layers", [4, 5, 6])
def test_states_are_those_of_transformers_layers(
    small_model: Callable[..., Any], family: str, layers: int
) -> None:
    overrides = (f"family={family}", f"model.num_hidden_layers={layers}")
    model = small_model(frozenset({"masked"}), *overrides).eval()
    generator = torch.Generator().manual_seed(layers)
    lengths_B = torch.tensor([12, 9, 12])
    ids_BL = torch.randint(6, 90, (3, 12), generator=generator)
    column_L = torch.arange(12)
    ids_BL[column_L >= lengths_B[:, None]] = model.config.pad_token_id
    kept_BK = torch.rand(3, 12, generator=generator).topk(6).indices.sort().values
    inputs = Inputs(
        input_ids_BL=ids_BL,
        queries_BP=column_L.expand(3, -1),
        slots_U=torch.arange(36),
        attention_mask_BL=attention_mask(ids_BL.numpy(), lengths_B.numpy()),
        kept_BK=kept_BK,
    )
    with torch.no_grad():
        found_BLD = Family.of(model).encode(inputs).view(3, 12, -1)
        for row, size in enumerate(lengths_B.tolist()):
            expected_LD = reference(model, inputs, row)
            torch.testing.assert_close(found_BLD[row, :size], expected_LD, rtol=1e-4, atol=1e-5)
        whole = Family.of(model).encode(replace(inputs, kept_BK=column_L.expand(3, -1)))
        plain = Family.of(model).encode(replace(inputs, kept_BK=None))
        torch.testing.assert_close(whole, plain, rtol=1e-4, atol=1e-5)


def test_the_cost_is_that_of_the_products(small_model: Callable[..., Any]) -> None:
    from bertexp.families.costs import products_of

    model = small_model(frozenset({"masked"}), "model.num_hidden_layers=6").eval()
    family = Family.of(model)
    for kept in (24, 12, 4):
        inputs = Inputs(
            input_ids_BL=torch.zeros(3, 24, dtype=torch.long),
            queries_BP=torch.arange(24).expand(3, -1),
            slots_U=torch.arange(72),
            kept_BK=torch.arange(kept).expand(3, -1),
        )
        counted = products_of(lambda _, each=inputs: family.encode(each), torch.zeros(1))
        assert family.products(inputs) == counted
