"""Examples: what batches are made of."""

from __future__ import annotations

from abc import ABC, abstractmethod

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

    def at_rate(self, rate: float) -> Examples:
        """Return the same examples with another mask rate; themselves where nothing is masked."""
        return self

    def under(self, seed: int) -> Examples:
        """Return the same examples masked under another seed."""
        return self
