"""The positions of a batch at which objectives predict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

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
    place_N = np.arange(len(rows_N)) - np.repeat(np.cumsum(counts_B) - counts_B, counts_B)
    place_N += others
    size, width = len(predicted_BL), filled(counts_B.max() + others, QUERIES_MULTIPLE)
    queries_BP = np.zeros((size, width), dtype=np.int64)
    queries_BP[rows_N, place_N] = columns_N
    used = filled(len(rows_N), PREDICTIONS_MULTIPLE)
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


def filled(count: float, multiple: int) -> int:
    """Return ``count`` rounded up to a multiple."""
    return int(-(-count // multiple)) * multiple
