"""What a kind of encoder computes correctly, tried on two random layers of it.

Whether attention can be limited, tokens can have other positions than their places, and padding can
be left out depends on the code of a model, which its configuration does not describe. So a small
random model computes two inputs whose results must agree.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from bertexp.families import FAMILIES
from bertexp.families.architecture import quiet
from bertexp.families.attention import HAS_VARLEN
from bertexp.families.base import Family
from bertexp.families.inputs import Inputs
from bertexp.validation import UserError

_ATTENTION_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout")
# The vocabulary size and the padding id of the trial models.
_WORDS, _PAD = 16, 1
_CPU = torch.device("cpu")


def check_positions(config: Any, key: str) -> None:
    """Check that a kind of encoder reads ``Inputs.positions_BL``.

    Raises:
        UserError: a token's state depends on its place in the input, whatever its position.
    """
    # Weights so large that distances have an effect.
    if not _passes(_keeps_positions, config, deviation=0.4):
        raise UserError(
            f"{key}: leaves out tokens, and {FAMILIES[config.model_type].as_option()} does not let "
            "the others keep their positions."
        )


def check_restricted(config: Any, key: str) -> None:
    """Check that a kind of encoder computes ``Inputs.causal_B`` and ``parts_BL``.

    Raises:
        UserError: a token affects positions that must not attend to it.
    """
    if not _passes(_keeps_apart, config):
        raise UserError(
            f"{key}: needs attention that is limited to some positions, which "
            f"{FAMILIES[config.model_type].as_option()} does not compute correctly."
        )


def pack(family: Family, device: torch.device, dtype: torch.dtype) -> bool:
    """Have a family leave out padding, see ``Inputs.packed_T``, if it can in half precision.

    It needs flash attention, which has no dropout, and attention that can be kept within texts.
    """
    config = family.config
    drops_out = any(getattr(config, name, 0) for name in _ATTENTION_DROPOUTS)
    if device.type != "cuda" or not HAS_VARLEN or drops_out or not packs_correctly(config):
        return False
    # GPUs before Ampere have neither bfloat16 nor flash attention.
    is_recent = torch.cuda.is_bf16_supported(including_emulation=False)
    can = is_recent and config.hidden_size // config.num_attention_heads % 8 == 0
    if can := can and packs_correctly(config, device, dtype):
        family.use_packing()
    return can


def packs_correctly(
    config: Any, device: torch.device = _CPU, dtype: torch.dtype | None = None
) -> bool:
    """Whether a kind of encoder has the same results and gradients without padding.

    Args:
        dtype: of mixed precision, None for none.
    """
    # Weights so large that it matters which text a token attends to: without limits, results differ
    # by 16 to 55%; those of two kernels in bfloat16 differ by up to 3%.
    deviation = 1.8 * config.hidden_size**-0.5
    return _passes(partial(_packs, device=device, dtype=dtype), config, deviation)


def _passes(trial: Callable[[Family], bool], config: Any, deviation: float | None = None) -> bool:
    """Return whether a random model passes a trial; not if it cannot be built or run.

    ``deviation`` is that of its weights, None for the one in ``config``.
    """
    kind, small = FAMILIES[config.model_type], deepcopy(config)
    small.vocab_size, small.pad_token_id = _WORDS, _PAD
    small.num_hidden_layers = min(2, config.num_hidden_layers)
    if deviation is not None:
        small.initializer_range = deviation
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            return trial(kind(kind.build(small, frozenset()).eval()))
    except Exception:  # the type depends on the model's code
        return False


def _read(ids_BL: torch.Tensor) -> Inputs:
    rows = len(ids_BL)
    first_B1 = torch.zeros(rows, 1, dtype=torch.long)
    return Inputs(input_ids_BL=ids_BL, queries_BP=first_B1, slots_U=torch.arange(rows))


@torch.no_grad()
def _keeps_positions(family: Family) -> bool:
    """Return whether tokens in another order, with their positions, have the same states."""
    ids_BL, order_L = torch.arange(2, 8)[None], torch.tensor([3, 0, 5, 1, 4, 2])
    plain = _read(ids_BL)
    other = replace(plain, input_ids_BL=ids_BL[:, order_L], positions_BL=order_L[None])
    before, after = family.hidden(plain), family.hidden(other)
    return torch.allclose(before[:, order_L], after, atol=1e-4)


@torch.no_grad()
def _keeps_apart(family: Family) -> bool:
    """Return whether no later token, and none of another document, affects a state."""
    # Two rows of two documents each; the second documents are the same.
    ids_BL = torch.tensor([[2, 3, 4, 5, 6, 7], [2, 3, 4, 5, 6, 7]])
    ids_BL[1, :3] += 8
    plain = _read(ids_BL)
    causal = replace(plain, input_ids_BL=ids_BL.flip(1), causal_B=torch.tensor([True, True]))
    parts_BL = torch.tensor([0, 0, 0, 1, 1, 1]).expand(2, -1)
    packed = replace(plain, parts_BL=parts_BL, positions_BL=torch.arange(3).repeat(2).expand(2, -1))
    alone = replace(plain, input_ids_BL=ids_BL[:, 3:])
    earlier, second, expected = (
        family.hidden(each)[:, part]
        for each, part in ((causal, slice(3)), (packed, slice(3, 6)), (alone, slice(3)))
    )
    pairs = (earlier[0], earlier[1]), (second[0], second[1]), (second[0], expected[0])
    return all(torch.allclose(*pair, atol=1e-5) for pair in pairs)


def _packs(family: Family, device: torch.device, dtype: torch.dtype | None) -> bool:
    """Return whether results and gradients stay the same, once it packs, without padding."""
    family.model.to(device)
    padded, packed = _two_texts(family, device)
    expected = _states_and_gradients(family, padded, dtype)
    family.use_packing()
    most = (1e-3 if dtype is None else 0.1) * expected.norm()
    found = (_states_and_gradients(family, each, dtype) for each in (padded, packed))
    return all(bool((each - expected).norm() < most) for each in found)


def _two_texts(family: Family, device: torch.device) -> tuple[Inputs, Inputs]:
    """Return a text and one of half its length, with padding and without."""
    # Longer than the windows of local attention.
    length = min(160, family.positions(family.config))
    # Two words in turn.
    sizes, ids_BL = (length, length // 2), torch.arange(2 * length).view(2, length) * 7 % 14 + 2
    ids_BL[1, sizes[1] :] = _PAD
    mask_BL = (torch.arange(length) < torch.tensor(sizes)[:, None]).long()
    padded = Inputs(
        input_ids_BL=ids_BL,
        attention_mask_BL=mask_BL,
        queries_BP=torch.arange(length).expand(2, -1),
        slots_U=torch.nonzero(mask_BL.flatten()).flatten(),
    ).to(device)
    offsets_S = torch.tensor([0, sizes[0], sum(sizes)], dtype=torch.int32, device=device)
    return padded, replace(padded, packed_T=padded.slots_U, offsets_S=offsets_S)


def _states_and_gradients(
    family: Family, inputs: Inputs, dtype: torch.dtype | None
) -> torch.Tensor:
    """Return states and gradients in one vector."""
    device = inputs.input_ids_BL.device
    weights = [each for each in family.model.parameters() if each.requires_grad]
    with torch.enable_grad():
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            states_UD = family.encode(inputs).float()
        waves_UD = torch.arange(states_UD.numel(), device=device).view_as(states_UD).sin()
        found = torch.autograd.grad((states_UD * waves_UD).sum(), weights, allow_unused=True)
    return torch.cat([each.flatten() for each in (states_UD, *found) if each is not None])
