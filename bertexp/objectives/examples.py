"""Examples, of which batches consist: blocks of text from a store or a stream, and masks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import replace
from typing import Self

import numpy as np
import torch

from bertexp.data.tokens.store import TokenStore
from bertexp.data.tokens.stream import TokenStream
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.draws import LastEpochs
from bertexp.masking.masker import STRATA, Masked, Masker
from bertexp.objectives.batch import Batch, Target, written
from bertexp.objectives.positions import use_positions


class Examples(ABC):
    """The examples of one split; a batch depends on nothing but the arguments."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of examples in an epoch."""

    @abstractmethod
    def documents(self) -> np.ndarray:
        """Return the number of each example's document, the same in every epoch."""

    @abstractmethod
    def lengths(self, epoch: int) -> np.ndarray:
        """Return the number of tokens of each example in ``epoch``, special tokens included."""

    def strata(self, epoch: int) -> np.ndarray:
        """Return the kind of each example; every batch has the same proportions of kinds."""
        return np.zeros(len(self), dtype=np.int64)

    @abstractmethod
    def batch(self, epoch: int, example_ids: np.ndarray) -> Batch:
        """Return the batch of these examples, shape (batch,), as they are in ``epoch``, from 0."""

    def layers(self) -> Iterator[Examples]:
        """Yield these examples and those that they wrap, the written ones last."""
        yield self

    def written(self, epoch: int, example_ids: np.ndarray) -> Batch:
        """Return the batch as it was written, before objectives changed its tokens."""
        *_, text = self.layers()
        return text.batch(epoch, example_ids)

    def remasked(self, change: Callable[[Masker], Masker]) -> Self:
        """Return the same examples with another masker, if they have one."""
        return self


class MarkedExamples(Examples):
    """Examples that an objective has marked; ``text`` may be marked by other objectives."""

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

    def remasked(self, change: Callable[[Masker], Masker]) -> Self:
        changed = copy(self)
        changed.text = self.text.remasked(change)
        return changed

    def layers(self) -> Iterator[Examples]:
        yield self
        yield from self.text.layers()


class BlockExamples(Examples):
    """Blocks of consecutive tokens of one document, as they were written.

    A document is cut into blocks of ``max_length - 2`` tokens; its last block is shorter.

    Args:
        max_length: the tokens of the longest example, including special ones.
        pad_to: the length to pad every example to, None for the longest of its batch.
    """

    def __init__(
        self, tokens: TokenStore, max_length: int, pad_to: int | None, tokenizer: Tokenizer
    ) -> None:
        self._size = max_length - tokenizer.special_in_sequence
        self._offsets = tokens.document_token_offsets
        # The number of the first block of each document, then the number of blocks.
        self._firsts = np.append(0, np.cumsum(-(-np.diff(self._offsets) // self._size)))
        self._tokens, self._pad_to, self._tokenizer = tokens.tokens, pad_to, tokenizer

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def documents(self) -> np.ndarray:
        return np.repeat(np.arange(len(self._firsts) - 1), np.diff(self._firsts))

    def lengths(self, epoch: int) -> np.ndarray:
        lengths = np.full(len(self), self._size, dtype=np.int32)
        blocks, sizes = np.diff(self._firsts), np.diff(self._offsets)
        last = self._firsts[1:][blocks > 0] - 1
        lengths[last] -= (blocks * self._size - sizes)[blocks > 0].astype(np.int32)
        return lengths + self._tokenizer.special_in_sequence

    def batch(self, epoch: int, example_ids: np.ndarray) -> Batch:
        documents = np.searchsorted(self._firsts, example_ids, side="right") - 1
        starts = self._offsets[documents] + (example_ids - self._firsts[documents]) * self._size
        ends = np.minimum(starts + self._size, self._offsets[documents + 1])
        rows = [
            self._tokenizer.sequence(self._tokens[start:end])
            for start, end in zip(starts, ends, strict=True)
        ]
        return written(example_ids, rows, self._tokenizer.pad_id, self._pad_to)


class StreamedBlocks(Examples):
    """Blocks of a stream that is too large for an epoch: an epoch is one buffer of it.

    ``open_blocks`` returns the blocks of a buffer's tokens; an epoch has ``count`` of them.
    """

    def __init__(
        self, stream: TokenStream, count: int, open_blocks: Callable[[TokenStore], Examples]
    ) -> None:
        self._stream, self._count, self._open_blocks = stream, count, open_blocks
        self._opened = LastEpochs(self._open)

    def _open(self, epoch: int) -> tuple[Examples, int]:
        buffer = self._stream.buffer(epoch)
        return self._open_blocks(buffer.tokens), buffer.first

    def __len__(self) -> int:
        return self._count

    def documents(self) -> np.ndarray:
        """Return the documents of the first epoch only."""
        blocks, first = self._opened(0)
        return blocks.documents()[first : first + self._count]

    def lengths(self, epoch: int) -> np.ndarray:
        blocks, first = self._opened(epoch)
        return blocks.lengths(0)[first : first + self._count]

    def batch(self, epoch: int, example_ids: np.ndarray) -> Batch:
        blocks, first = self._opened(epoch)
        return replace(blocks.batch(0, first + example_ids), example_ids=example_ids)


class MaskedExamples(MarkedExamples):
    """Examples with masked tokens.

    ``weights_V`` are the weights of predictions by token, None for 1.
    """

    def __init__(
        self, text: Examples, masker: Masker, name: str, weights_V: torch.Tensor | None = None
    ) -> None:
        super().__init__(text)
        self.masker, self.name, self.weights_V = masker, name, weights_V

    def remasked(self, change: Callable[[Masker], Masker]) -> Self:
        changed = super().remasked(change)
        changed.masker = change(self.masker)
        return changed

    def strata(self, epoch: int) -> np.ndarray:
        """Return the kinds of the texts, each divided by how high the rate is."""
        own = self.masker.strata(np.arange(len(self)), epoch)
        return self.text.strata(epoch) * STRATA + own

    def unmasked(self, example_ids: np.ndarray, epoch: int = 0) -> np.ndarray:
        return self.written(epoch, example_ids).input_ids_BL.numpy()

    def weighted(self, target: Target, masked: Masked) -> Target:
        """Return what is predicted, with what each prediction counts."""
        return target

    def batch(self, epoch: int, example_ids: np.ndarray) -> Batch:
        written = self.text.batch(epoch, example_ids)
        masked = self.masker.mask(written.input_ids_BL.numpy(), example_ids, epoch)
        marked = predict_tokens(written, self.name, masked.predicted_BL, self.weights_V)
        weighted = self.weighted(marked.targets[self.name], masked)
        return replace(
            marked,
            targets=marked.targets | {self.name: weighted},
            input_ids_BL=torch.from_numpy(masked.input_ids_BL),
            **masked.counts,
        )


def predict_tokens(
    batch: Batch, name: str, predicted_BL: np.ndarray, weights_V: torch.Tensor | None = None
) -> Batch:
    """Return the batch with an objective that predicts its tokens at ``predicted_BL``.

    ``weights_V`` are the weights of predictions by token, None for 1.
    """
    labels_N = torch.from_numpy(batch.input_ids_BL.numpy()[predicted_BL])
    marked = use_positions(batch, name, predicted_BL, labels_N)
    if weights_V is None:
        return marked
    target = replace(marked.targets[name], token_weights_N=weights_V[labels_N])
    return replace(marked, targets=marked.targets | {name: target})
