"""Examples: what batches are made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy

import numpy as np

from bertexp.objectives.batch import Batch


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
    def batch(self, epoch: int, example_ids: np.ndarray) -> Batch:
        """Return the batch of these examples as they are in ``epoch``, counted from 0.

        Args:
            epoch: counted from 0.
            example_ids: which examples, shape (batch,).
        """

    def written(self, epoch: int, example_ids: np.ndarray) -> Batch:
        """Return the batch as it was written, whatever objectives do to its tokens."""
        return self.batch(epoch, example_ids)

    def at_rate(self, rate: float) -> Examples:
        """Return the same examples with another mask rate; themselves where nothing is masked."""
        return self

    def under(self, seed: int) -> Examples:
        """Return the same examples masked under another seed."""
        return self


class MarkedExamples(Examples):
    """Examples on which an objective predicts something.

    Args:
        text: the examples, perhaps marked by other objectives.
    """

    def __init__(self, text: Examples) -> None:
        self.text = text

    def __len__(self) -> int:
        return len(self.text)

    def documents(self) -> np.ndarray:
        return self.text.documents()

    def lengths(self, epoch: int) -> np.ndarray:
        return self.text.lengths(epoch)

    def strata(self, epoch: int) -> np.ndarray:
        return self.text.strata(epoch)

    def at_rate(self, rate: float) -> Examples:
        changed = copy(self)
        changed.text = self.text.at_rate(rate)
        return changed

    def under(self, seed: int) -> Examples:
        changed = copy(self)
        changed.text = self.text.under(seed)
        return changed

    def written(self, epoch: int, example_ids: np.ndarray) -> Batch:
        return self.text.written(epoch, example_ids)
