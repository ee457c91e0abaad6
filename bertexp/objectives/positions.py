"""The positions of a batch at which objectives predict, and batches of few different shapes.

For masks at columns 2 and 4 of one sequence and at 1 of another (before sizes are rounded up)::

    queries_BP   [[2, 4], [1, 0]]   the columns of each row; the last one is padding
    slots_U      [0, 1, 2]          where in the flattened queries_BP hidden states are used
    target.used  slice(0, 3)        the part of slots_U that belongs to the objective
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional

from bertexp.arrays import ranges
from bertexp.objectives.batch import Batch, Target

# Positions are filled up to multiples: matrix products of a few shapes are faster than of ever new
# ones, for which libraries compile and keep code each time.
QUERIES_MULTIPLE, PREDICTIONS_MULTIPLE = 8, 32


def use_positions(
    batch: Batch, name: str, predicted_BL: np.ndarray, labels_N: torch.Tensor
) -> Batch:
    """Return the batch with an objective that predicts at ``predicted_BL``, before the others.

    Others that use the batch's positions follow it: those of the first position of each
    sequence (``use_first_position``), or else any.
    """
    shared = {n: target for n, target in batch.targets.items() if target.used is not None}
    if batch.queries_BP.shape[1] > 1:
        return _use_more(batch, name, predicted_BL, labels_N)
    others = len(shared) > 0
    rows_N, columns_N = np.nonzero(predicted_BL)
    counts_B = predicted_BL.sum(1)
    place_N = ranges(counts_B) + others
    size, width = len(predicted_BL), rounded_up(counts_B.max() + others, QUERIES_MULTIPLE)
    queries_BP = np.zeros((size, width), dtype=np.int64)
    queries_BP[rows_N, place_N] = columns_N
    used = rounded_up(len(rows_N), PREDICTIONS_MULTIPLE)
    slots_U = np.zeros(used + size * others, dtype=np.int64)
    slots_U[: len(rows_N)] = rows_N * width + place_N
    slots_U[used:] = np.arange(size * others) * width
    positions_N = torch.from_numpy(np.flatnonzero(predicted_BL))
    behind = {n: replace(t, used=slice(used, used + size)) for n, t in shared.items()}
    return replace(
        batch,
        queries_BP=torch.from_numpy(queries_BP),
        slots_U=torch.from_numpy(slots_U),
        targets={name: Target(labels_N, positions_N, slice(0, used)), **batch.targets, **behind},
    )


def _use_more(batch: Batch, name: str, predicted_BL: np.ndarray, labels_N: torch.Tensor) -> Batch:
    plain = replace(batch, queries_BP=batch.queries_BP[:, :1], targets={})
    added = use_positions(plain, name, predicted_BL, labels_N)
    width, more = batch.queries_BP.shape[1], added.queries_BP.shape[1]
    before_U, after_U = batch.slots_U, added.slots_U
    slots = [
        before_U // width * (width + more) + before_U % width,
        after_U // more * (width + more) + width + after_U % more,
    ]
    used = slice(len(before_U), len(before_U) + len(after_U))
    return replace(
        batch,
        queries_BP=torch.cat([batch.queries_BP, added.queries_BP], dim=1),
        slots_U=torch.cat(slots),
        targets={**batch.targets, name: replace(added.targets[name], used=used)},
    )


def use_first_position(batch: Batch, name: str, labels_B: torch.Tensor) -> Batch:
    """Return the batch with an objective that predicts a label for each sequence.

    It does so at the first position, the only one that ``written`` uses.
    """
    size, length = batch.input_ids_BL.shape
    target = Target(labels_B, torch.arange(size) * length, slice(0, size))
    return replace(batch, targets={**batch.targets, name: target})


def rounded_up(count: float, multiple: int) -> int:
    return int(-(-count // multiple)) * multiple


def filled(batch: Batch) -> Batch:
    """Return a batch whose targets have as many predictions as places, some of weight 0.

    The number of places is rounded up, so that batches have few different ones.
    """
    slots, targets, end = [batch.slots_U[:0]], dict(batch.targets), 0
    used = {name: target.used for name, target in targets.items() if target.used is not None}
    for name, own in sorted(used.items(), key=lambda each: each[1].start):
        target, places = targets[name], own.stop - own.start
        more = _few(places) - places if places > len(target) > 0 else 0
        slots.append(functional.pad(batch.slots_U[own], (0, more)))
        targets[name] = _filled(replace(target, used=slice(end, end + places + more)))
        end += places + more
    return replace(batch, slots_U=torch.cat(slots), targets=targets)


def packed(batch: Batch, multiple: int) -> Batch:
    """Return the batch with ``packed_T``: its tokens, filled up with padding to a multiple.

    A batch without padding whose rows are one text each stays as it is, as does one with causal
    rows.
    """
    parts_BL = batch.parts_BL
    if batch.causal_B is not None or (batch.attention_mask_BL is None and parts_BL is None):
        return batch
    real_BL = batch.real_BL.bool()
    real_N = real_BL.flatten()
    count = int(real_N.sum())
    size = min(rounded_up(count, multiple), len(real_N))
    packed_T = torch.argsort(~real_N, stable=True)[:size]
    # A text begins with a row, or with another part of it.
    begins_BL = torch.zeros_like(real_BL)
    begins_BL[:, 0] = True
    if parts_BL is not None:
        begins_BL[:, 1:] = parts_BL[:, 1:] != parts_BL[:, :-1]
    starts = torch.nonzero(begins_BL.flatten()[packed_T[:count]]).flatten()
    # No text, of padding either, is longer than a row.
    longest = batch.input_ids_BL.shape[1]
    padding = torch.arange(count, size, longest)
    # The number of offsets is that of other batches too: the last texts are empty.
    places = len(real_BL) + -(-multiple // longest)
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


def _few(places: int) -> int:
    """Return a multiple of 32 and of an eighth of the next power of two."""
    unit = max(32, (1 << (places - 1).bit_length()) // 8)
    return rounded_up(places, unit)
