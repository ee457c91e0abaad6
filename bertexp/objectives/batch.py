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

    def filled(self) -> Self:
        """Return a target with a prediction of weight 0 at each position that is padding.

        One that predicts nothing stays as it is.
        """
        if self.used is None or not len(self):
            return self
        more = self.used.stop - self.used.start - len(self)
        weights_N, by_token_N = self.weights_N, self.token_weights_N
        if weights_N is None:
            # Other batches of the same shape may have places to fill, and so weights.
            weights_N = torch.ones(len(self))
        return replace(
            self,
            labels_N=functional.pad(self.labels_N, (0, more)),
            positions_N=functional.pad(self.positions_N, (0, more)),
            weights_N=functional.pad(weights_N, (0, more)),
            token_weights_N=None if by_token_N is None else functional.pad(by_token_N, (0, more)),
            over=len(self) if self.over is None else self.over,
        )

    def by_token(self, weights_V: torch.Tensor | None) -> Self:
        """Return a target whose predictions count as much as their token does, None for 1."""
        return (
            self if weights_V is None else replace(self, token_weights_N=weights_V[self.labels_N])
        )

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
        mask_BL = self.attention_mask_BL
        if mask_BL is None:
            mask_BL = torch.ones_like(self.input_ids_BL)

        def longer(each_BL: torch.Tensor | None) -> torch.Tensor | None:
            return None if each_BL is None else functional.pad(each_BL, (0, length - own))

        targets = {name: target.padded(own, length) for name, target in self.targets.items()}
        return replace(
            self,
            input_ids_BL=functional.pad(self.input_ids_BL, (0, length - own)),
            attention_mask_BL=longer(mask_BL),
            token_type_ids_BL=longer(self.token_type_ids_BL),
            parts_BL=longer(self.parts_BL),
            positions_BL=longer(self.positions_BL),
            targets=targets,
        )

    def packed(self, multiple: int) -> Batch:
        """Return the batch with ``packed_T``: its tokens, filled up with padding to a multiple.

        A batch without padding whose rows are one text each stays as it is, as does one with causal
        rows.
        """
        mask_BL, parts_BL = self.attention_mask_BL, self.parts_BL
        if self.causal_B is not None or (mask_BL is None and parts_BL is None):
            return self
        if mask_BL is None:
            mask_BL = torch.ones_like(self.input_ids_BL)
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
        longest = self.input_ids_BL.shape[1]
        padding = torch.arange(count, size, longest)
        # The number of offsets is that of other batches too: the last texts are empty.
        places = len(mask_BL) + -(-multiple // longest)
        places *= -(-(len(starts) + len(padding)) // places)
        offsets_S = torch.full((places + 1,), size, dtype=torch.int32)
        offsets_S[: len(starts)] = starts
        offsets_S[len(starts) : len(starts) + len(padding)] = padding
        return replace(self, packed_T=packed_T, offsets_S=offsets_S)

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory, for asynchronous copies to a GPU."""
        return self.mapped(lambda tensor: tensor.pin_memory())

    def mapped(self, change: Callable[[Any], Any], kind: type = torch.Tensor) -> Batch:
        targets = {name: target.mapped(change, kind) for name, target in self.targets.items()}
        return replace(super().mapped(change, kind), targets=targets)

    def filled(self) -> Batch:
        """Return a batch whose targets have as many predictions as places, some of weight 0.

        The number of places is rounded up, so that batches have few different ones.
        """
        slots, targets, end = [self.slots_U[:0]], dict(self.targets), 0
        used = {name: target.used for name, target in targets.items() if target.used is not None}
        for name, own in sorted(used.items(), key=lambda each: each[1].start):
            target, places = targets[name], own.stop - own.start
            more = _rounded_up(places) - places if places > len(target) > 0 else 0
            slots.append(functional.pad(self.slots_U[own], (0, more)))
            targets[name] = replace(target, used=slice(end, end + places + more)).filled()
            end += places + more
        return replace(self, slots_U=torch.cat(slots), targets=targets)


def _rounded_up(places: int) -> int:
    """Return a multiple of 32 and of an eighth of the next power of two."""
    unit = max(32, (1 << (places - 1).bit_length()) // 8)
    return -(-places // unit) * unit


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
