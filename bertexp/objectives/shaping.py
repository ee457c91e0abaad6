"""Batches given few different shapes, to be recorded as CUDA graphs or compiled."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn import functional

from bertexp.objectives.batch import Batch, Target


def filled(batch: Batch) -> Batch:
    """Return a batch whose targets have as many predictions as places, some of weight 0.

    The number of places is rounded up, so that batches have few different ones.
    """
    slots, targets, end = [batch.slots_U[:0]], dict(batch.targets), 0
    used = {name: target.used for name, target in targets.items() if target.used is not None}
    for name, own in sorted(used.items(), key=lambda each: each[1].start):
        target, places = targets[name], own.stop - own.start
        more = _rounded_up(places) - places if places > len(target) > 0 else 0
        slots.append(functional.pad(batch.slots_U[own], (0, more)))
        targets[name] = _filled(replace(target, used=slice(end, end + places + more)))
        end += places + more
    return replace(batch, slots_U=torch.cat(slots), targets=targets)


def packed(batch: Batch, multiple: int) -> Batch:
    """Return the batch with ``packed_T``: its tokens, filled up with padding to a multiple.

    A batch without padding whose rows are one text each stays as it is, as does one with causal
    rows.
    """
    mask_BL, parts_BL = batch.attention_mask_BL, batch.parts_BL
    if batch.causal_B is not None or (mask_BL is None and parts_BL is None):
        return batch
    if mask_BL is None:
        mask_BL = torch.ones_like(batch.input_ids_BL)
    real_N = mask_BL.flatten().bool()
    count = int(real_N.sum())
    size = min(-(-count // multiple) * multiple, len(real_N))
    packed_T = torch.argsort(~real_N, stable=True)[:size]
    # A text begins with a row, or with another part of it.
    begins_BL = torch.zeros_like(mask_BL, dtype=torch.bool)
    begins_BL[:, 0] = True
    if parts_BL is not None:
        begins_BL[:, 1:] = parts_BL[:, 1:] != parts_BL[:, :-1]
    starts = torch.nonzero(begins_BL.flatten()[packed_T[:count]]).flatten()
    # No text, of padding either, is longer than a row.
    longest = batch.input_ids_BL.shape[1]
    padding = torch.arange(count, size, longest)
    # The number of offsets is that of other batches too: the last texts are empty.
    places = len(mask_BL) + -(-multiple // longest)
    places *= -(-(len(starts) + len(padding)) // places)
    offsets_S = torch.full((places + 1,), size, dtype=torch.int32)
    offsets_S[: len(starts)] = starts
    offsets_S[len(starts) : len(starts) + len(padding)] = padding
    return replace(batch, packed_T=packed_T, offsets_S=offsets_S)


def _filled(target: Target) -> Target:
    """Return a target with a prediction of weight 0 at each position that is padding.

    One that predicts nothing stays as it is.
    """
    if target.used is None or not len(target):
        return target
    more = target.used.stop - target.used.start - len(target)
    weights_N, by_token_N = target.weights_N, target.token_weights_N
    if weights_N is None:
        # Other batches of the same shape may have places to fill, and so weights.
        weights_N = torch.ones(len(target))
    return replace(
        target,
        labels_N=functional.pad(target.labels_N, (0, more)),
        positions_N=functional.pad(target.positions_N, (0, more)),
        weights_N=functional.pad(weights_N, (0, more)),
        token_weights_N=None if by_token_N is None else functional.pad(by_token_N, (0, more)),
        over=len(target) if target.over is None else target.over,
    )


def _rounded_up(places: int) -> int:
    """Return a multiple of 32 and of an eighth of the next power of two."""
    unit = max(32, (1 << (places - 1).bit_length()) // 8)
    return -(-places // unit) * unit
