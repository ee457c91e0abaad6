"""Kinds of masked tokens, for losses by kind."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from bertexp import metrics
from bertexp.data.tokens.store import TokenStore, count_tokens
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.masking.words import row_starts
from bertexp.objectives.batch import Batch

# Three ways to divide the predictions, each with exactly one slice for every prediction.
SLICES = {
    "frequency": ("rare", "medium", "frequent"),
    "position": ("start", "middle", "end"),
    "word": ("words", "pieces"),
}
# The prefix of the metrics of slices.
SLICE_PREFIX = "eval/loss@"
for _name in itertools.chain(*SLICES.values()):
    _meaning = f"the loss at one kind of predictions: {_name}"
    _row = replace(metrics.LOSS, results=False, meaning=_meaning)
    metrics.register(SLICE_PREFIX + _name, _row)


class Slicer:
    """Sorts the predictions of a batch into slices.

    - By frequency of the predicted token in the training text. With the vocabulary in order
      of frequency, ``frequent`` are the types that make up the first third of all training
      tokens, ``medium`` the next third, ``rare`` the last one and what never occurs there.
      A type counts where the more frequent ones end, so equally frequent ones stay together.
    - By place in the sequence: ``start``, ``middle`` and ``end`` are the thirds of its own
      tokens, special ones included.
    - By word: ``words`` are predicted tokens that are a whole word, ``pieces`` those of a word
      that is cut into several. A word at the end of a block counts by what is inside it.
    """

    def __init__(self, train: TokenStore, tokenizer: Tokenizer) -> None:
        self._frequency_V = frequency_classes(count_tokens(train, tokenizer))
        self._tokenizer = tokenizer

    def kinds(self, batch: Batch) -> dict[str, np.ndarray]:
        """Return for every way in ``SLICES`` the number of each prediction's slice, shape (N,).

        Only for batches in which what is masked is predicted, and nothing else changed.
        """
        (target,) = batch.targets.values()
        ids_BL, labels_N = batch.input_ids_BL.numpy().copy(), target.labels_N.numpy()
        rows_N, columns_N = np.unravel_index(target.positions_N.numpy(), ids_BL.shape)
        ids_BL[rows_N, columns_N] = labels_N
        lengths_B = batch.real_BL.sum(1).numpy()
        opens_N = row_starts(ids_BL).ravel()
        begins_N = self._tokenizer.begins_words(ids_BL.ravel(), opens_N)
        # There always is a next token: the closing one is never predicted.
        places_N = target.positions_N.numpy()
        pieces_N = ~(begins_N[places_N] & begins_N[places_N + 1])
        return {
            "frequency": self._frequency_V[labels_N],
            "position": 3 * columns_N // lengths_B[rows_N],
            "word": pieces_N.astype(np.int64),
        }


def frequency_classes(counts_V: np.ndarray) -> np.ndarray:
    """Return the number of each type's slice among ``SLICES["frequency"]``, shape (vocabulary,)."""
    counts_C, class_V = np.unique(counts_V, return_inverse=True)
    tokens_C = counts_C * np.bincount(class_V)
    more_frequent_C = tokens_C.sum() - np.cumsum(tokens_C)
    thirds_C = 3 * more_frequent_C // max(tokens_C.sum(), 1)
    return np.where(counts_C > 0, 2 - thirds_C, 0)[class_V]
