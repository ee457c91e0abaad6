"""``task.format``: what an example is, for tasks without pairs of their own."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np
import torch

from bertexp.arrays import ranges
from bertexp.data.tokens.store import TokenStore
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.objectives import FORMATS
from bertexp.objectives.batch import Batch, pad, written
from bertexp.objectives.config import TaskConfig
from bertexp.objectives.examples import BlockExamples, Examples
from bertexp.objectives.pair_examples import PairExamples
from bertexp.validation import UserError

E = TypeVar("E", bound=Examples)

# What segments and negatives are made with.
PAIR_READS = (
    *("task.sentences", "task.segments", "task.short_prob", "task.negatives", "task.next_prob"),
    "task.dynamic",
)


class RowExamples(Examples):
    """Rows of up to ``max_length`` tokens, which hold each token of the text once, in its order.

    Args:
        max_length, pad_to: see ``BlockExamples``.
        whole: whether a row has whole sentences only, of which it is the most that fit; one that
            is longer than a row is cut. Else only the last row of all is shorter than the others.
        crosses: whether a row continues with the next document where one ends.
        apart: whether the documents of a row are as if each were alone: with special tokens of
            their own, positions from 0, and attention within themselves. Else one closing token is
            between them.
    """

    def __init__(
        self,
        tokens: TokenStore,
        max_length: int,
        pad_to: int | None,
        tokenizer: Tokenizer,
        *,
        whole: bool,
        crosses: bool,
        apart: bool = False,
    ) -> None:
        self._tokens, self._tokenizer, self._pad_to = tokens.tokens, tokenizer, pad_to
        self._apart = apart
        self._documents = offsets = tokens.document_token_offsets
        capacity = max_length - tokenizer.special_in_sequence
        between = tokenizer.special_in_sequence if apart else 1
        units = tokens.sentence_offsets if whole else offsets
        # The special tokens before each unit: as many as a row holds before a document that must
        # begin a row.
        costs = np.zeros(len(units) - 1, dtype=np.int64)
        costs[np.searchsorted(units, offsets[:-1])] = between if crosses else capacity
        rows = _row_starts(units, costs, capacity, cuts=not whole)
        # A piece is the text of one document in one row.
        self._starts = np.union1d(rows, offsets[:-1])
        self._ends = np.append(self._starts[1:], offsets[-1:])
        # The number of the first piece of each row, then the number of pieces.
        self._firsts = np.append(np.searchsorted(self._starts, rows), len(self._starts))
        pieces = np.diff(self._firsts)
        texts = np.diff(np.append(rows, offsets[-1:]))
        opening = pieces if apart else 1
        self._lengths = texts + pieces + opening
        if not (whole or apart):
            # Room for one token is too little for a separator and text of the next document: such a
            # row ends with two separators.
            self._lengths[:-1] = max_length

    def __len__(self) -> int:
        return len(self._lengths)

    def documents(self) -> np.ndarray:
        """Return the document with which each row begins."""
        return np.searchsorted(self._documents, self._starts[self._firsts[:-1]], side="right") - 1

    def lengths(self, epoch: int) -> np.ndarray:
        return self._lengths

    def figures(self) -> dict[str, float]:
        """Return the number of rows, and the means of their tokens and documents."""
        documents = float(np.diff(self._firsts).mean())
        return {"rows": len(self), "tokens": float(self._lengths.mean()), "documents": documents}

    def batch(self, epoch: int, example_ids: np.ndarray) -> Batch:
        pieces = [
            [
                self._tokens[start:end]
                for start, end in zip(self._starts[part], self._ends[part], strict=True)
            ]
            for part in map(slice, self._firsts[example_ids], self._firsts[example_ids + 1])
        ]
        tokenizer = self._tokenizer
        if self._apart:
            alone = [[tokenizer.sequence(piece) for piece in row] for row in pieces]
            batch = written(
                example_ids, [*map(np.concatenate, alone)], tokenizer.pad_id, self._pad_to
            )
            return _apart(batch, [[len(piece) for piece in row] for row in alone])
        closing = np.array([tokenizer.closing_id])
        rows = []
        for row, length in zip(pieces, self._lengths[example_ids], strict=True):
            joined = [part for piece in row[:-1] for part in (piece, closing)]
            whole = tokenizer.sequence(np.concatenate([*joined, row[-1]]))
            rows.append(np.append(whole, closing.repeat(length - len(whole))))
        return written(example_ids, rows, tokenizer.pad_id, self._pad_to)


def _apart(batch: Batch, sizes: list[list[int]]) -> Batch:
    """Return the batch with documents that do not attend to each other.

    Args:
        sizes: the tokens of each document in each row.
    """
    parts = [np.repeat(np.arange(len(row)), row) for row in sizes]
    positions = [np.concatenate([*map(np.arange, row)]) for row in sizes]
    length = batch.input_ids_BL.shape[1]
    parts_BL, positions_BL = (pad(rows, 0, length)[0] for rows in (parts, positions))
    return replace(
        batch, parts_BL=torch.from_numpy(parts_BL), positions_BL=torch.from_numpy(positions_BL)
    )


def _row_starts(offsets: np.ndarray, costs: np.ndarray, capacity: int, cuts: bool) -> np.ndarray:
    """Return the token with which each row begins, for units of text that are laid end to end.

    Args:
        offsets: the first token of each unit, then the number of tokens.
        costs: the special tokens before each unit, unless it begins a row.
        capacity: the tokens of a row, without those around it.
        cuts: whether a unit that does not fit into the rest of a row is cut there, or begins a row.
    """
    sizes = np.diff(offsets)
    # Of each unit, the tokens in the row that it does not begin. A loop, as each row begins where
    # the one before it ends.
    before, room = [], 0
    for size, cost in zip(sizes.tolist(), costs.tolist(), strict=True):
        free = max(room - cost, 0)
        here = min(size, free) if cuts or size <= free else 0
        before.append(here)
        room = (free if here else 0) - size
        room %= capacity
    before_U = np.array(before, dtype=np.int64)
    rows_U = -(-(sizes - before_U) // capacity)
    unit_R = np.repeat(np.arange(len(sizes)), rows_U)
    return offsets[unit_R] + before_U[unit_R] + capacity * ranges(rows_U)


def write_blocks(
    tokens: TokenStore, config: TaskConfig, tokenizer: Tokenizer, seed: int
) -> BlockExamples:
    return _some(BlockExamples(tokens, config.max_length, config.pad_to, tokenizer))


def _write_rows(
    tokens: TokenStore,
    config: TaskConfig,
    tokenizer: Tokenizer,
    seed: int,
    *,
    whole: bool,
    crosses: bool,
) -> RowExamples:
    lengths = config.max_length, config.pad_to
    apart = crosses and config.attention == "document"
    return _some(
        RowExamples(tokens, *lengths, tokenizer, whole=whole, crosses=crosses, apart=apart)
    )


def _some(examples: E) -> E:
    if len(examples) == 0:
        raise UserError("The corpus has no tokens: choose another dataset or more documents.")
    return examples


# Consecutive tokens of one document, cut anywhere.
FORMATS.register("blocks")(write_blocks)

# As many consecutive sentences as fit, of one document or several with a separator between:
# RoBERTa's FULL-SENTENCES (Liu et al. 2019, section 4.2). A sentence that is longer than a row is
# cut; there its end is lost.
FORMATS.register("full_sentences", reads=("task.sentences", "task.attention"))(
    partial(_write_rows, whole=True, crosses=True)
)

# As many consecutive sentences of one document as fit: RoBERTa's DOC-SENTENCES (section 4.2). There
# batches of short rows have more of them; here ``trainer.max_tokens`` gives runs of different
# formats the same number of tokens.
FORMATS.register("doc_sentences", reads=("task.sentences",))(
    partial(_write_rows, whole=True, crosses=False)
)

# Full rows, cut anywhere, of one document or several with a separator between. That is how GPT-2
# and its successors read text (Brown et al. 2020, "Language models are few-shot learners", section
# 2.3), here with special tokens around each row.
FORMATS.register("packed", reads=("task.attention",))(
    partial(_write_rows, whole=False, crosses=True)
)

# The pairs of next sentence prediction, whose labels nothing predicts: RoBERTa's SEGMENT-PAIR
# without NSP (section 4.2), the ablation in which BERT loses the loss and keeps the input. Segments
# are those of ``task.segments`` and, where the second does not follow the first, of
# ``task.negatives``.
FORMATS.register("segment_pairs", reads=PAIR_READS)(partial(PairExamples, name=None))
