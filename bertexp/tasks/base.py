"""What every task gives: examples, batches of them, and the model's class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from bertexp.masking.config import MaskingConfig
from bertexp.masking.masker import Masker
from bertexp.masking.strategies import Context, Vocabulary
from bertexp.tasks.batch import Batch, queries
from bertexp.tasks.config import TaskConfig
from bertexp.tokens.store import TokenStore
from bertexp.tokens.tokenizer import WordPieceTokenizer

# What only tasks with masked tokens read, and what only those with sentence pairs do.
READ_BY_MASKED = ("masking", "evaluation.mask_probs", "evaluation.pseudo_perplexity")
READ_BY_PAIRS = (
    *("task.sentences", "task.segments", "task.short_prob", "task.negatives", "task.next_prob"),
    *("task.dynamic", "task.nsp_weight", "evaluation.negatives", "evaluation.count_negatives"),
)


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

    def strata(self, epoch: int) -> np.ndarray:
        """Return the kind of each example; every batch gets its share of each kind."""
        return np.zeros(len(self), dtype=np.int64)

    @abstractmethod
    def batch(self, epoch: int, example_ids: np.ndarray, mask_prob: float | None = None) -> Batch:
        """Return the batch of these examples as they are in ``epoch``.

        Args:
            epoch: counted from 0.
            example_ids: which examples, shape (batch,).
            mask_prob: the mask rate; None for ``masking.prob``.
        """


class MaskedExamples(Examples):
    """Examples of text in which tokens are masked.

    Attributes:
        text: the examples as they were written.
        masker: what masks them.
    """

    def __init__(self, text: Examples, masker: Masker) -> None:
        self.text, self.masker = text, masker

    def __len__(self) -> int:
        return len(self.text)

    def documents(self) -> np.ndarray:
        return self.text.documents()

    def lengths(self, epoch: int) -> np.ndarray:
        return self.text.lengths(epoch)

    def strata(self, epoch: int) -> np.ndarray:
        return self.text.strata(epoch)

    def unmasked(self, example_ids: np.ndarray, epoch: int = 0) -> np.ndarray:
        """Return the ids of examples of ``epoch`` as they were written, padded."""
        return self.text.batch(epoch, example_ids).input_ids_BL.numpy()

    def batch(self, epoch: int, example_ids: np.ndarray, mask_prob: float | None = None) -> Batch:
        written = self.text.batch(epoch, example_ids)
        ids_BL = written.input_ids_BL.numpy()
        masked = self.masker.mask(ids_BL, example_ids, epoch, mask_prob)
        positions_N = np.flatnonzero(masked.predicted_BL)
        queries_BP, slots_U = queries(masked.predicted_BL, written.next_labels_B is not None)
        return replace(
            written,
            input_ids_BL=torch.from_numpy(masked.input_ids_BL),
            queries_BP=queries_BP,
            slots_U=slots_U,
            positions_N=torch.from_numpy(positions_N),
            labels_N=torch.from_numpy(ids_BL.ravel()[positions_N]),
            maskable=masked.maskable,
            helped=masked.helped,
            mask_prob=masked.prob,
        )


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

    @property
    def weights(self) -> dict[str, float]:
        """What the mean loss of each objective is multiplied with before they are added up."""
        every = {"mlm": 1.0, "nsp": self.config.nsp_weight}
        return {name: every[name] for name in self.objectives}

    @abstractmethod
    def examples(self, tokens: TokenStore, masking: MaskingConfig, seed: int) -> Examples:
        """Return the examples that ``tokens`` give.

        Raises:
            UserError: the corpus gives none.
        """

    def masker(self, tokens: TokenStore, masking: MaskingConfig, seed: int) -> Masker:
        """Return what masks batches of ``tokens``, by their own statistics where it needs any."""
        return Masker(Context(masking, Vocabulary.of(self.tokenizer), tokens), seed)
