"""What every task gives: examples, batches of them, and the model's class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np
import torch

from bertexp.masking.config import MaskingConfig
from bertexp.masking.masker import Masker
from bertexp.masking.strategies import Context, Vocabulary
from bertexp.tasks.config import TaskConfig
from bertexp.tokens.store import TokenStore
from bertexp.tokens.tokenizer import WordPieceTokenizer


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
        positions_N: the predicted positions, indices into the flattened batch.
        slots_N: where these are among the queries, indices into the flattened ``queries_BP``.
        labels_N: the ids that stood there.
        next_labels_B: 0 where the second segment follows the first, 1 where it does not.
        tokens: tokens that are no padding.
        maskable: positions that could have been predicted.
        helped: sequences that drew no prediction and were given one.
        mask_prob: the mask rate that was asked for; 0 where nothing is masked.
    """

    example_ids: np.ndarray
    input_ids_BL: torch.Tensor
    queries_BP: torch.Tensor
    attention_mask_BL: torch.Tensor | None = None
    token_type_ids_BL: torch.Tensor | None = None
    positions_N: torch.Tensor | None = None
    slots_N: torch.Tensor | None = None
    labels_N: torch.Tensor | None = None
    next_labels_B: torch.Tensor | None = None
    tokens: int = 0
    maskable: int = 0
    helped: int = 0
    mask_prob: float = 0.0

    @property
    def predictions(self) -> dict[str, int]:
        """How many predictions each of the objectives makes on this batch."""
        counts = {"mlm": self.labels_N, "nsp": self.next_labels_B}
        return {name: len(labels) for name, labels in counts.items() if labels is not None}

    def labels(self, objective: str) -> torch.Tensor:
        """Return the labels of ``"mlm"`` or ``"nsp"``."""
        labels = self.labels_N if objective == "mlm" else self.next_labels_B
        assert labels is not None, f"this batch has no labels for {objective}"
        return labels

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


class Examples(ABC):
    """The examples of one split. Which batch they give depends on nothing but the arguments."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of examples in an epoch."""

    @abstractmethod
    def documents(self) -> np.ndarray:
        """Return the number of the document that each example is from, in every epoch the same."""

    @abstractmethod
    def lengths(self, epoch: int) -> np.ndarray:
        """Return the number of tokens of each example in ``epoch``, special tokens included."""

    @abstractmethod
    def batch(self, epoch: int, example_ids: np.ndarray, mask_prob: float | None = None) -> Batch:
        """Return the batch of these examples as they are in ``epoch``.

        Args:
            epoch: counted from 0.
            example_ids: which examples, shape (batch,).
            mask_prob: the mask rate; None for ``masking.prob``.
        """


class MaskedExamples(Examples):
    """Examples in which tokens are masked.

    Attributes:
        masker: what masks them.
    """

    masker: Masker

    @abstractmethod
    def unmasked(self, example_ids: np.ndarray, epoch: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Return the examples of ``epoch`` as they were written, padded, and their lengths."""


@dataclass(frozen=True)
class Task(ABC):
    """An objective: builds examples and evaluation examples from stored tokens.

    Attributes:
        config: ``task.*``.
        tokenizer: what the tokens were cut with.
    """

    config: TaskConfig
    tokenizer: WordPieceTokenizer

    # The class of ``transformers`` that is trained and exported.
    model_class: ClassVar[str]
    # Whether examples are made of sentences, and not just of text.
    uses_sentences: ClassVar[bool]
    # The objectives whose losses are added up: "mlm", "nsp".
    objectives: ClassVar[tuple[str, ...]]

    @abstractmethod
    def examples(self, tokens: TokenStore, masking: MaskingConfig, seed: int) -> Examples:
        """Return the examples that ``tokens`` give.

        Raises:
            UserError: the corpus gives none.
        """

    def masker(self, tokens: TokenStore, masking: MaskingConfig, seed: int) -> Masker:
        """Return what masks batches of ``tokens``, by their own statistics where it needs any."""
        return Masker(Context(masking, Vocabulary.of(self.tokenizer), tokens), seed)


def pad(rows: list[np.ndarray], pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Stack rows of different lengths: ids (``int64``) padded to the longest, and the lengths."""
    lengths_B = np.array([len(row) for row in rows])
    ids_BL = np.full((len(rows), lengths_B.max()), pad_id, dtype=np.int64)
    for row, ids in zip(ids_BL, rows, strict=True):
        row[: len(ids)] = ids
    return ids_BL, lengths_B


def attention_mask(lengths_B: np.ndarray) -> torch.Tensor | None:
    """Return 1 for tokens and 0 for padding, or None if all sequences are equally long."""
    longest = lengths_B.max()
    if (lengths_B == longest).all():
        return None
    return torch.from_numpy((np.arange(longest) < lengths_B[:, None]).astype(np.int64))


def queries(used_BL: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the columns of each row where ``used_BL`` holds, and where each of them is.

    The first is of shape (batch, most columns of a row), filled up with 0; the second has
    the index into the flattened first one of every used position, row by row.
    """
    rows_N, columns_N = np.nonzero(used_BL)
    counts_B = used_BL.sum(1)
    slots_N = np.arange(len(rows_N)) - np.repeat(np.cumsum(counts_B) - counts_B, counts_B)
    queries_BP = np.zeros((len(used_BL), counts_B.max()), dtype=np.int64)
    queries_BP[rows_N, slots_N] = columns_N
    return torch.from_numpy(queries_BP), torch.from_numpy(rows_N * queries_BP.shape[1] + slots_N)
