"""Batches: what a model sees and what it should say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

# See ``queries``.
QUERIES_MULTIPLE, PREDICTIONS_MULTIPLE = 8, 32
# The label that torch's losses pass over.
IGNORED = -100


@dataclass(frozen=True)
class Batch:
    """What a model sees and what it should say.

    Attributes:
        example_ids: which examples of the epoch these are, shape (batch,).
        input_ids_BL: token ids, padded, ``int64``.
        attention_mask_BL: 1 for tokens, 0 for padding; None where nothing is padded.
        token_type_ids_BL: the segment of each token, 0 or 1; None where there is only one.
        queries_BP: the positions of each sequence that are used after the last layer, filled
            up with 0; where there are ``next_labels_B``, the first one is ``[CLS]``.
        slots_U: what is used, indices into the flattened ``queries_BP``: the predicted positions
            in their order, filled up with 0, then ``[CLS]`` of each sequence if it is used.
        positions_N: the predicted positions, indices into the flattened batch.
        labels_N: the ids that stood there.
        next_labels_B: 0 where the second segment follows the first, 1 where it does not,
            ``IGNORED`` where it is not asked.
        targets_B: the number of each sequence's class, or its score (``float32``).
        tokens: tokens that are no padding.
        maskable: positions that could have been predicted.
        helped: sequences that drew no prediction and were given one.
        mask_prob: the mask rate that was asked for; 0 where nothing is masked.
    """

    example_ids: np.ndarray
    input_ids_BL: torch.Tensor
    queries_BP: torch.Tensor
    slots_U: torch.Tensor
    attention_mask_BL: torch.Tensor | None = None
    token_type_ids_BL: torch.Tensor | None = None
    positions_N: torch.Tensor | None = None
    labels_N: torch.Tensor | None = None
    next_labels_B: torch.Tensor | None = None
    targets_B: torch.Tensor | None = None
    tokens: int = 0
    maskable: int = 0
    helped: int = 0
    mask_prob: float = 0.0

    @property
    def predictions(self) -> dict[str, int]:
        """How many predictions each of the objectives makes on this batch."""
        counts = {}
        if self.labels_N is not None:
            counts["mlm"] = len(self.labels_N)
        if self.next_labels_B is not None:
            counts["nsp"] = len(self.example_ids)
        if self.targets_B is not None:
            counts["label"] = len(self.example_ids)
        return counts

    def labels(self, objective: str) -> torch.Tensor:
        """Return the labels of ``"mlm"``, ``"nsp"`` or ``"label"``."""
        labels = self._labels[objective]
        assert labels is not None, f"this batch has no labels for {objective}"
        return labels

    @property
    def _labels(self) -> dict[str, torch.Tensor | None]:
        return {"mlm": self.labels_N, "nsp": self.next_labels_B, "label": self.targets_B}

    def idle(self) -> Batch:
        """Return a batch that is computed like this one, but teaches nothing and counts nothing."""
        none = {
            name: values[:0]
            for name in ("example_ids", "positions_N", "labels_N")
            if (values := getattr(self, name)) is not None
        }
        if self.next_labels_B is not None:
            none["next_labels_B"] = torch.full_like(self.next_labels_B, IGNORED)
        return replace(self, **none, tokens=0, maskable=0, helped=0)

    def padded_to(self, length: int) -> Batch:
        """Return the batch with all sequences padded to ``length`` tokens, no fewer than now."""
        own = self.input_ids_BL.shape[1]
        mask_BL, types_BL, at_N = self.attention_mask_BL, self.token_type_ids_BL, self.positions_N
        if mask_BL is None:
            mask_BL = torch.ones_like(self.input_ids_BL)
        more = (0, length - own)
        return replace(
            self,
            input_ids_BL=functional.pad(self.input_ids_BL, more),
            attention_mask_BL=functional.pad(mask_BL, more),
            token_type_ids_BL=None if types_BL is None else functional.pad(types_BL, more),
            positions_N=None if at_N is None else at_N // own * length + at_N % own,
        )

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory, from where copies to a GPU need no wait."""
        return self._map(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device) -> Batch:
        """Return the batch with its tensors on ``device``."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def _map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        tensors: dict[str, Any] = {
            field.name: change(value)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), torch.Tensor)
        }
        return replace(self, **tensors)


def pad(
    rows: list[np.ndarray], pad_id: int, pad_to: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Stack rows of different lengths: padded ids (``int64``) and the lengths.

    They are padded to ``pad_to`` tokens, or to the longest of them.
    """
    lengths_B = np.array([len(row) for row in rows])
    ids_BL = np.full((len(rows), pad_to or lengths_B.max()), pad_id, dtype=np.int64)
    for row, ids in zip(ids_BL, rows, strict=True):
        row[: len(ids)] = ids
    return ids_BL, lengths_B


def attention_mask(ids_BL: np.ndarray, lengths_B: np.ndarray) -> torch.Tensor | None:
    """Return 1 for tokens and 0 for padding, or None if nothing is padded."""
    if (lengths_B == ids_BL.shape[1]).all():
        return None
    return torch.from_numpy((np.arange(ids_BL.shape[1]) < lengths_B[:, None]).astype(np.int64))


def written(
    example_ids: np.ndarray,
    rows: list[np.ndarray],
    pad_id: int,
    pad_to: int | None = None,
    second_B: np.ndarray | None = None,
) -> Batch:
    """Return the batch of rows of token ids in which nothing is predicted yet.

    Args:
        example_ids: which examples they are.
        rows: the token ids of each; ``[CLS]`` alone is used of them.
        pad_id, pad_to: see ``pad``.
        second_B: where the second segment of each begins; None where there is only one.
    """
    ids_BL, lengths_B = pad(rows, pad_id, pad_to)
    types_BL = None
    if second_B is not None:
        column_L = np.arange(ids_BL.shape[1])
        second_BL = (column_L >= second_B[:, None]) & (column_L < lengths_B[:, None])
        types_BL = torch.from_numpy(second_BL.astype(np.int64))
    return Batch(
        example_ids=example_ids,
        input_ids_BL=torch.from_numpy(ids_BL),
        queries_BP=torch.zeros((len(rows), 1), dtype=torch.int64),
        slots_U=torch.arange(len(rows)),
        attention_mask_BL=attention_mask(ids_BL, lengths_B),
        token_type_ids_BL=types_BL,
        tokens=int(lengths_B.sum()),
    )


def queries(predicted_BL: np.ndarray, with_cls: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``queries_BP`` and ``slots_U`` of a batch, see ``Batch``.

    Both are filled up to a multiple: matrix products of a few shapes, each met often, are
    faster than of ever new ones, for which libraries make and keep ever new code.
    """
    rows_N, columns_N = np.nonzero(predicted_BL)
    counts_B = predicted_BL.sum(1)
    place_N = np.arange(len(rows_N)) - np.repeat(np.cumsum(counts_B) - counts_B, counts_B)
    place_N += with_cls
    size, width = len(predicted_BL), _filled(counts_B.max() + with_cls, QUERIES_MULTIPLE)
    queries_BP = np.zeros((size, width), dtype=np.int64)
    queries_BP[rows_N, place_N] = columns_N
    used = _filled(len(rows_N), PREDICTIONS_MULTIPLE)
    slots_U = np.zeros(used + size * with_cls, dtype=np.int64)
    slots_U[: len(rows_N)] = rows_N * width + place_N
    slots_U[used:] = np.arange(size * with_cls) * width
    return torch.from_numpy(queries_BP), torch.from_numpy(slots_U)


def _filled(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
