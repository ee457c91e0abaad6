"""Attention limited to some positions: causal rows, documents packed into a row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import CONFIG_MAPPING, AutoModel

from bertexp.families import FAMILIES
from bertexp.families.base import Family
from bertexp.families.inputs import Inputs
from bertexp.families.trials import check_restricted, packs_correctly
from bertexp.objectives.batch import Batch
from bertexp.objectives.positions import packed
from bertexp.validation import UserError

SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "initializer_range": 0.4,
    "pad_token_id": 1,
}
# DistilBERT names the others differently.
_SHARED = ("vocab_size", "initializer_range", "pad_token_id")
KINDS: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"type_vocab_size": 1},
    "electra": {"embedding_size": 8},
    "distilbert": {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 24},
    # A window of two tokens on either side.
    "modernbert": {"local_attention": 4, "global_attn_every_n_layers": 2},
    "deberta-v2": {
        "relative_attention": True,
        "position_buckets": 4,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
    },
    "xlm-roberta": {},
    "albert": {"embedding_size": 8},
    "mpnet": {},
    "eurobert": {},
}
# Their attention depends on positions within the row.
PADDED = {"deberta-v2", "mpnet"}


def family(kind: str, **more: Any) -> Family:
    tokens = dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"))
    sizes = SIZES if kind != "distilbert" else {k: SIZES[k] for k in _SHARED}
    made: Any = CONFIG_MAPPING[kind]
    config = made(**{**tokens, **sizes, **KINDS[kind], **more})
    torch.manual_seed(0)
    return FAMILIES[kind](FAMILIES[kind].build(config, frozenset()).eval())


def everywhere(ids_BL: Tensor, **more: Any) -> Inputs:
    """Return inputs all of whose positions are used, in an order of their own."""
    rows, length = ids_BL.shape
    queries_BP = torch.arange(length).flip(0).expand(rows, -1)
    used = torch.arange(rows * length)
    return Inputs(input_ids_BL=ids_BL, queries_BP=queries_BP, slots_U=used, **more)


def states(of: Family, inputs: Inputs) -> Tensor:
    with torch.no_grad():
        return of.encode(inputs).unflatten(0, inputs.input_ids_BL.shape).flip(1)


def words(*shape: int) -> Tensor:
    return torch.randint(2, 40, shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_later_changes_nothing(kind: str) -> None:
    of, ids_BL = family(kind), words(2, 12)
    causal = everywhere(ids_BL, causal_B=torch.tensor([True, False]))
    before = states(of, causal)
    for place in (1, 7, 11):
        other_BL = ids_BL.clone()
        other_BL[:, place] = 2 + (ids_BL[:, place] + 5) % 38
        after = states(of, replace(causal, input_ids_BL=other_BL))
        torch.testing.assert_close(after[0, :place], before[0, :place], atol=1e-6, rtol=0)
        assert (after[0, place:] != before[0, place:]).any(-1).sum() >= 1
        # The other row is an encoder's.
        assert not torch.allclose(after[1, place - 1], before[1, place - 1], atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_both_kinds_are_as_each_alone_with_and_without_padding(kind: str) -> None:
    of, ids_BL, lengths = family(kind), words(4, 12), (12, 9, 12, 7)
    padding_BL = torch.arange(12) >= torch.tensor(lengths)[:, None]
    causal_B = torch.tensor([True, True, False, False])
    together = states(
        of,
        everywhere(
            ids_BL.masked_fill(padding_BL, 1),
            attention_mask_BL=(~padding_BL).long(),
            causal_B=causal_B,
        ),
    )
    assert together.isfinite().all()
    for row, length in enumerate(lengths):
        more = {"causal_B": causal_B[row, None]} if causal_B[row] else {}
        alone = states(of, everywhere(ids_BL[row : row + 1, :length], **more))
        torch.testing.assert_close(together[row, :length], alone[0], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_packed_documents_are_as_each_alone(kind: str, is_causal: bool) -> None:
    of, sizes = family(kind), (5, 3, 4)
    documents = [words(3, 5)[n : n + 1, :size] for n, size in enumerate(sizes)]
    more = {"causal_B": torch.tensor([True])} if is_causal else {}
    packed = everywhere(
        torch.cat(documents, dim=1),
        parts_BL=torch.repeat_interleave(torch.arange(3), torch.tensor(sizes))[None],
        positions_BL=torch.cat([torch.arange(size) for size in sizes])[None],
        **more,
    )
    alone = torch.cat([states(of, everywhere(each, **more)) for each in documents], dim=1)
    torch.testing.assert_close(states(of, packed), alone, atol=2e-5, rtol=1e-4)
    padded = replace(packed, attention_mask_BL=torch.ones_like(packed.input_ids_BL))
    torch.testing.assert_close(states(of, padded), alone, atol=2e-5, rtol=1e-4)


@given(
    rows=st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=3), min_size=1, max_size=4),
    kind=st.sampled_from(sorted(KINDS.keys() - PADDED)),
    multiple=st.integers(1, 20),
)
@settings(deadline=None, max_examples=30)
def test_without_padding_documents_are_as_each_alone(
    rows: list[list[int]], kind: str, multiple: int
) -> None:
    of, flat = family(kind), [size for row in rows for size in row]
    documents = [*words(1, sum(flat)).split(flat, dim=1)]
    alone = torch.cat([states(of, everywhere(each)) for each in documents], dim=1)[0]

    def stack(parts: list[list[Tensor]], fill: int) -> Tensor:
        return pad_sequence([torch.cat(row) for row in parts], batch_first=True, padding_value=fill)

    at = iter(documents)
    ids_BL = stack([[next(at)[0] for _ in row] for row in rows], 1)
    own_BL = stack([[torch.ones(size) for size in row] for row in rows], 0)
    whole = everywhere(
        ids_BL,
        attention_mask_BL=own_BL.long(),
        parts_BL=stack([[torch.full((n,), i) for i, n in enumerate(row)] for row in rows], 0),
        positions_BL=stack([[torch.arange(size) for size in row] for row in rows], 0),
    )
    row = packed(Batch(example_ids=np.arange(len(rows)), **vars(whole)), multiple)
    of.use_packing()
    assert row.packed_T is not None and row.offsets_S is not None
    assert len(row.packed_T) - sum(flat) < multiple
    sizes = row.offsets_S.diff()
    assert row.offsets_S[-1] == len(row.packed_T)
    assert sizes.min() >= 0 and sizes.max() <= ids_BL.shape[1]
    found = states(of, row)[own_BL.bool()]
    torch.testing.assert_close(found, alone, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_whether_a_kind_needs_padding_is_tried(kind: str) -> None:
    assert packs_correctly(family(kind).config) is (kind not in PADDED)


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "xlm-roberta"])
def test_causal_rows_are_those_of_a_decoder_of_transformers(kind: str) -> None:
    of, ids_BL = family(kind), words(2, 12)
    config = type(of.config).from_dict(of.config.to_dict() | {"is_decoder": True})
    decoder = AutoModel.from_config(config).eval()
    weights = of.model.state_dict()
    assert not decoder.load_state_dict(weights, strict=False).unexpected_keys
    mask_BL = torch.ones_like(ids_BL)
    mask_BL[1, 8:] = 0
    with torch.no_grad():
        expected = decoder(ids_BL, attention_mask=mask_BL, use_cache=False).last_hidden_state
    causal_B = torch.tensor([True, True])
    found = states(of, everywhere(ids_BL, attention_mask_BL=mask_BL, causal_B=causal_B))
    for row, length in enumerate((12, 8)):
        torch.testing.assert_close(found[row, :length], expected[row, :length])


def test_a_batch_keeps_its_masks_when_it_is_padded_moved_or_idle() -> None:
    whole = everywhere(words(2, 6), causal_B=torch.tensor([True, False]))
    parts_BL = torch.tensor([[0, 0, 0, 1, 1, 1]]).expand(2, -1)
    positions_BL = torch.arange(3).repeat(2).expand(2, -1)
    batch = Batch(
        example_ids=np.arange(2),
        **{**vars(whole), "parts_BL": parts_BL, "positions_BL": positions_BL},
    )
    padded = batch.padded_to(9)
    assert padded.parts_BL is not None
    assert padded.positions_BL is not None
    assert padded.parts_BL.shape == padded.positions_BL.shape == (2, 9)
    moved = batch.mapped(torch.clone)
    other = batch.at(torch.arange(2), batch.input_ids_BL)
    for each in (padded, batch.idle(), moved, other):
        found = each.attended_B1LL
        assert found is not None
        assert batch.attended_B1LL is not None
        assert found[:, :, :6, :6].equal(batch.attended_B1LL)
        assert not found[:, :, :6, 6:].any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_tried_before_it_is_trained(kind: str) -> None:
    check_restricted(family(kind).config, "task=mntp")


@pytest.mark.parametrize(
    ("kind", "settings"), [("esm", {"mask_token_id": 4}), ("deberta-v2", {"conv_kernel_size": 3})]
)
def test_a_kind_that_cannot_limit_attention_is_refused_in_one_line(
    kind: str, settings: dict[str, Any]
) -> None:
    made: Any = CONFIG_MAPPING[kind]
    config = made(**SIZES, **KINDS.get(kind, {}), **settings)
    with pytest.raises(UserError, match=r"^task=mntp: needs attention .*family.*\.$"):
        check_restricted(config, "task=mntp")
