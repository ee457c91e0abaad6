"""Batches: a model's inputs and targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from torch.nn import functional

from bertexp.families.inputs import Inputs, Tensors


@dataclass(frozen=True)
class Target(Tensors):
    """The targets of one objective in a batch.

    Attributes:
        labels_N: ids of tokens, numbers of classes (``int64``) or scores (``float32``).
        positions_N: where they are predicted, as indices into the flattened batch.
        used: the part of the batch's ``slots_U`` that these positions are, perhaps followed by
            padding. None if the objective encodes its own input.
        weights_N: factors of the losses (``float32``), None for 1.
        token_weights_N: further factors, see ``LossConfig``, without which the losses are logged.
        over: the divisor of the summed loss, None for the number of predictions.
    """

    labels_N: torch.Tensor
    positions_N: torch.Tensor
    used: slice | None
    weights_N: torch.Tensor | None = field(default=None, kw_only=True)
    token_weights_N: torch.Tensor | None = field(default=None, kw_only=True)
    over: int | None = field(default=None, kw_only=True)

    def idle(self) -> Self:
        """Return a target that is computed like this one, but predicts nothing."""
        return replace(
            self,
            labels_N=self.labels_N[:0],
            positions_N=self.positions_N[:0],
            weights_N=None if self.weights_N is None else self.weights_N[:0],
            token_weights_N=None if self.token_weights_N is None else self.token_weights_N[:0],
            over=None if self.over is None else 0,
        )

    def padded(self, before: int, after: int) -> Self:
        at_N = self.positions_N
        return replace(self, positions_N=at_N // before * after + at_N % before)

    def __len__(self) -> int:
        return len(self.labels_N)

    def rows(self, length: int) -> np.ndarray:
        """Return the number of each prediction's sequence, for sequences of ``length`` tokens."""
        return self.positions_N.numpy() // length


@dataclass(frozen=True, kw_only=True)
class Batch(Inputs):
    """A model's inputs, and the targets of each objective.

    Each objective uses a slice of the positions ``slots_U``, see ``Target``; they are padded with
    0.

    Attributes:
        example_ids: of the epoch, shape (batch,).
        predicted: the number of tokens predicted over the vocabulary, masked or not.
        maskable, masked: the numbers of positions that could have been masked, and of those that
            were chosen.
        empty: the number of sequences that drew no prediction, see ``Masked``.
        mask_prob: the configured mask rate, 0 if nothing is masked.
    """

    example_ids: np.ndarray
    targets: dict[str, Target] = field(default_factory=dict)
    tokens: int = 0
    predicted: int = 0
    maskable: int = 0
    masked: int = 0
    empty: int = 0
    mask_prob: float = 0.0

    @property
    def predictions(self) -> dict[str, int]:
        return {
            name: len(target) if target.over is None else target.over
            for name, target in self.targets.items()
        }

    def idle(self) -> Batch:
        """Return a batch that is computed like this one, but predicts and counts nothing."""
        targets = {name: target.idle() for name, target in self.targets.items()}
        none = self.example_ids[:0]
        names = ("tokens", "predicted", "maskable", "masked", "empty")
        counts: dict[str, Any] = dict.fromkeys(names, 0)
        return replace(self, example_ids=none, targets=targets, **counts)

    def padded_to(self, length: int) -> Batch:
        """Return the batch padded to ``length`` tokens, at least its present length."""
        own = self.input_ids_BL.shape[1]

        def longer(each_BL: torch.Tensor | None) -> torch.Tensor | None:
            return None if each_BL is None else functional.pad(each_BL, (0, length - own))

        return replace(
            self,
            input_ids_BL=functional.pad(self.input_ids_BL, (0, length - own)),
            attention_mask_BL=longer(self.real_BL),
            token_type_ids_BL=longer(self.token_type_ids_BL),
            parts_BL=longer(self.parts_BL),
            positions_BL=longer(self.positions_BL),
            targets={name: each.padded(own, length) for name, each in self.targets.items()},
        )

    def mapped(self, change: Callable[[Any], Any], kind: type = torch.Tensor) -> Batch:
        targets = {name: target.mapped(change, kind) for name, target in self.targets.items()}
        return replace(super().mapped(change, kind), targets=targets)


def pad(
    rows: list[np.ndarray], pad_id: int, pad_to: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Stack rows of different lengths: padded ids (``int64``) and the lengths.

    ``pad_to`` None is the length of the longest.
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
    """Return a batch of token ids without targets.

    Only the first token of each row is used. ``second_B`` is the start of each second segment; None
    if there is only one.
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
