"""Whether a kind of encoder can limit attention to some positions, and take positions: tried."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
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


def _small(config: Any) -> Any:
    config = deepcopy(config)
    config.vocab_size, config.pad_token_id = _WORDS, _PAD
    config.num_hidden_layers = min(2, config.num_hidden_layers)
    return config


def _read(ids_BL: torch.Tensor) -> Inputs:
    rows = len(ids_BL)
    first_B1 = torch.zeros(rows, 1, dtype=torch.long)
    return Inputs(input_ids_BL=ids_BL, queries_BP=first_B1, slots_U=torch.arange(rows))


@torch.no_grad()
def check_positions(config: Any, key: str) -> None:
    """Check that tokens in another order, with their positions, have the same states.

    Raises:
        UserError: a token's state depends on its place in the input, whatever its position.
    """
    kind, config = FAMILIES[config.model_type], _small(config)
    # Weights so large that distances have an effect.
    config.initializer_range = 0.4
    ids_BL, order_L = torch.arange(2, 8)[None], torch.tensor([3, 0, 5, 1, 4, 2])
    plain = _read(ids_BL)
    other = replace(plain, input_ids_BL=ids_BL[:, order_L], positions_BL=order_L[None])

    def keeps(family: Family) -> bool:
        before, after = family.hidden(plain), family.hidden(other)
        return torch.allclose(before[:, order_L], after, atol=1e-4)

    if not _holds(keeps, kind, config):
        raise UserError(
            f"{key}: leaves out tokens, and {kind.override()} does not let the others keep their "
            "positions."
        )


@torch.no_grad()
def check_restricted(config: Any, key: str) -> None:
    """Check ``Inputs.causal_B``, ``parts_BL`` and ``positions_BL`` on two random layers.

    Raises:
        UserError: a token affects positions that must not attend to it.
    """
    kind, config = FAMILIES[config.model_type], _small(config)
    # Two rows of two documents each; the second documents are the same.
    ids_BL = torch.tensor([[2, 3, 4, 5, 6, 7], [2, 3, 4, 5, 6, 7]])
    ids_BL[1, :3] += 8
    plain = _read(ids_BL)
    causal = replace(plain, input_ids_BL=ids_BL.flip(1), causal_B=torch.tensor([True, True]))
    parts_BL = torch.tensor([0, 0, 0, 1, 1, 1]).expand(2, -1)
    packed = replace(plain, parts_BL=parts_BL, positions_BL=torch.arange(3).repeat(2).expand(2, -1))
    alone = replace(plain, input_ids_BL=ids_BL[:, 3:])

    def keeps(family: Family) -> bool:
        earlier, second, expected = (
            family.hidden(each)[:, part]
            for each, part in ((causal, slice(3)), (packed, slice(3, 6)), (alone, slice(3)))
        )
        pairs = (earlier[0], earlier[1]), (second[0], second[1]), (second[0], expected[0])
        return all(torch.allclose(*pair, atol=1e-5) for pair in pairs)

    if not _holds(keeps, kind, config):
        raise UserError(
            f"{key}: needs attention that is limited to some positions, which {kind.override()} "
            "does not compute correctly."
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
    """Whether two random layers have the same results and gradients without padding.

    Args:
        dtype: of mixed precision, None for none.
    """
    kind, config = FAMILIES[config.model_type], _small(config)
    # Weights so large that it matters which text a token attends to: without limits, results differ
    # by 16 to 55%; those of two kernels in bfloat16 differ by up to 3%.
    config.initializer_range = 1.8 * config.hidden_size**-0.5
    # Longer than the windows of local attention.
    length = min(160, kind.positions(config))
    sizes, ids_BL = (length, length // 2), torch.arange(2 * length).view(2, length) * 7 % 14 + 2
    ids_BL[1, sizes[1] :] = _PAD
    mask_BL = (torch.arange(length) < torch.tensor(sizes)[:, None]).long()
    used_U = torch.nonzero(mask_BL.flatten()).flatten()
    column_BL = torch.arange(length).expand(2, -1)
    given = {"input_ids_BL": ids_BL, "attention_mask_BL": mask_BL, "queries_BP": column_BL}
    padded = Inputs(**given, slots_U=used_U).to(device)
    offsets_S = torch.tensor([0, sizes[0], sum(sizes)], dtype=torch.int32, device=device)
    packed = replace(padded, packed_T=padded.slots_U, offsets_S=offsets_S)

    def computed(family: Family, inputs: Inputs) -> torch.Tensor:
        """Return states and gradients in one vector."""
        weights = [each for each in family.model.parameters() if each.requires_grad]
        with torch.enable_grad():
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                states_UD = family.encode(inputs).float()
            waves_UD = torch.arange(states_UD.numel(), device=device).view_as(states_UD).sin()
            found = torch.autograd.grad((states_UD * waves_UD).sum(), weights, allow_unused=True)
        return torch.cat([each.flatten() for each in (states_UD, *found) if each is not None])

    def keeps(family: Family) -> bool:
        family.model.to(device)
        expected = computed(family, padded)
        family.use_packing()
        most = (1e-3 if dtype is None else 0.1) * expected.norm()
        errors = [(computed(family, each) - expected).norm() for each in (padded, packed)]
        return all(bool(error < most) for error in errors)

    return _holds(keeps, kind, config)


def _holds(check: Callable[[Family], bool], kind: type[Family], config: Any) -> bool:
    """Return whether a random model passes a check; not if it cannot be built or run."""
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            return check(kind(kind.build(config, frozenset()).eval()))
    except Exception:  # the type depends on the model's code
        return False
