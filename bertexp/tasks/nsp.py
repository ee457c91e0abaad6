"""Next sentence prediction (Devlin et al. 2019, section 3.1)."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from bertexp import draws
from bertexp.masking.config import MaskingConfig
from bertexp.tasks import TASKS
from bertexp.tasks.base import Batch, Examples, Task, attention_mask, pad
from bertexp.tokens.store import TokenStore
from bertexp.tokens.tokenizer import WordPieceTokenizer
from bertexp.validation import UserError

# [CLS] A [SEP] B [SEP]
SPECIAL_PER_PAIR = 3
IS_NEXT, NOT_NEXT = 0, 1
# Redraws of a negative whose words are those of the true next sentence.
REDRAWS = 16
# Sentences hashed at once, so that a large corpus does not need large temporaries.
HASH_CHUNK = 1 << 16


class Pairs(NamedTuple):
    """The pairs of one epoch: sentence numbers, labels and lengths in tokens, all of shape (N,)."""

    first: np.ndarray
    second: np.ndarray
    labels: np.ndarray
    first_lengths: np.ndarray
    second_lengths: np.ndarray


class PairExamples(Examples):
    """One pair a paragraph and epoch: a sentence of it, and the next one or another.

    An epoch has exactly ``round(N * next_prob)`` pairs that follow each other. The second
    sentence of the others is drawn uniformly from the sentences of all other documents.

    Args:
        tokens: the split, cut into sentences.
        max_length: tokens of the longest pair; the longer sentence is cut at its end.
        next_prob: share of pairs that follow each other.
        tokenizer: for the ids of the special tokens.
        seed: the run's seed.
    """

    def __init__(
        self,
        tokens: TokenStore,
        max_length: int,
        next_prob: float,
        tokenizer: WordPieceTokenizer,
        seed: int,
    ) -> None:
        self._tokens = tokens
        self._room = max_length - SPECIAL_PER_PAIR
        self._next_prob = next_prob
        self._tokenizer = tokenizer
        self._seed = seed
        sentences_in_paragraph = np.diff(tokens.paragraph_offsets)
        self._paragraphs = np.flatnonzero(sentences_in_paragraph > 1)
        self._choices = sentences_in_paragraph[self._paragraphs] - 1
        self._first_sentences = tokens.paragraph_offsets[self._paragraphs]
        # Of the first sentence.
        self._documents = documents = (
            np.searchsorted(tokens.document_offsets, self._paragraphs, side="right") - 1
        )
        document_sentences = tokens.paragraph_offsets[tokens.document_offsets]
        self._document_starts = document_sentences[documents]
        self._document_sizes = np.diff(document_sentences)[documents]
        self._sentence_lengths = np.diff(tokens.sentence_offsets)
        self._sentence_hashes = _sentence_hashes(tokens)
        self.pairs = lru_cache(maxsize=2)(self._draw_pairs)

    def __len__(self) -> int:
        return len(self._paragraphs)

    def documents(self) -> np.ndarray:
        return self._documents

    def lengths(self, epoch: int) -> np.ndarray:
        pairs = self.pairs(epoch)
        return pairs.first_lengths + pairs.second_lengths + SPECIAL_PER_PAIR

    def batch(self, epoch: int, example_ids: np.ndarray, mask_prob: float | None = None) -> Batch:
        pairs = Pairs(*(column[example_ids] for column in self.pairs(epoch)))
        cls, sep = [self._tokenizer.cls_id], [self._tokenizer.sep_id]
        rows = [
            np.concatenate((cls, self._sentence(a, size_a), sep, self._sentence(b, size_b), sep))
            for a, b, _, size_a, size_b in zip(*pairs, strict=True)
        ]
        ids_BL, lengths_B = pad(rows, self._tokenizer.pad_id)
        column_L = np.arange(ids_BL.shape[1])
        second_BL = (column_L >= pairs.first_lengths[:, None] + 2) & (column_L < lengths_B[:, None])
        return Batch(
            example_ids=example_ids,
            input_ids_BL=torch.from_numpy(ids_BL),
            # Only [CLS] is used.
            queries_BP=torch.zeros((len(ids_BL), 1), dtype=torch.int64),
            attention_mask_BL=attention_mask(lengths_B),
            token_type_ids_BL=torch.from_numpy(second_BL.astype(np.int64)),
            next_labels_B=torch.from_numpy(pairs.labels),
            tokens=int(lengths_B.sum()),
        )

    def _sentence(self, index: int, size: int) -> np.ndarray:
        start = self._tokens.sentence_offsets[index]
        return self._tokens.tokens[start : start + size]

    def _draw_pairs(self, epoch: int) -> Pairs:
        examples = np.arange(len(self))
        start_state = draws.combine(draws.key("pair-start", self._seed, epoch), examples)
        first = self._first_sentences + draws.integers(start_state, self._choices)
        order = np.argsort(draws.combine(draws.key("pair-label", self._seed, epoch), examples))
        labels = np.full(len(self), NOT_NEXT, dtype=np.int64)
        labels[order[: round(len(self) * self._next_prob)]] = IS_NEXT
        second = np.where(labels == IS_NEXT, first + 1, self._negatives(first, epoch))
        a, b = self._sentence_lengths[first], self._sentence_lengths[second]
        # The longer sentence gives way until both fit.
        half = self._room // 2
        size_a = np.minimum(a, np.maximum(self._room - b, self._room - half))
        size_b = np.minimum(b, np.maximum(self._room - a, half))
        return Pairs(first, second, labels, size_a, size_b)

    def _negatives(self, first: np.ndarray, epoch: int) -> np.ndarray:
        """Draw a sentence of another document for each pair, never one that reads like the next."""
        state = draws.combine(draws.key("pair-negative", self._seed, epoch), np.arange(len(self)))
        others = len(self._sentence_lengths) - self._document_sizes
        negative = np.zeros_like(first)
        pending = np.arange(len(self))
        for attempt in range(REDRAWS):
            drawn = draws.integers(draws.combine(state[pending], attempt), others[pending])
            behind = drawn >= self._document_starts[pending]
            negative[pending] = drawn + behind * self._document_sizes[pending]
            same = self._sentence_hashes[negative] == self._sentence_hashes[first + 1]
            pending = np.flatnonzero(same)
            if len(pending) == 0:
                return negative
        raise UserError(
            "The corpus repeats one sentence too often to find pairs that do not follow each "
            "other: clean it, or choose another dataset."
        )


def _sentence_hashes(tokens: TokenStore) -> np.ndarray:
    """Return a ``uint64`` for each sentence, equal for equal tokens."""
    offsets = tokens.sentence_offsets
    hashes = np.empty(len(offsets) - 1, dtype=np.uint64)
    for first in range(0, len(hashes), HASH_CHUNK):
        starts = offsets[first : first + HASH_CHUNK + 1]
        chunk = tokens.tokens[starts[0] : starts[-1]].astype(np.uint64)
        position = np.arange(starts[0], starts[-1]) - np.repeat(starts[:-1], np.diff(starts))
        hashes[first : first + HASH_CHUNK] = np.add.reduceat(
            draws.combine(draws.mix(chunk), position), starts[:-1] - starts[0]
        )
    return hashes


@TASKS.register("nsp")
class NextSentencePrediction(Task):
    """Say whether the second sentence follows the first."""

    model_class = "BertForNextSentencePrediction"
    uses_sentences = True
    objectives = ("nsp",)

    def examples(self, tokens: TokenStore, masking: MaskingConfig, seed: int) -> PairExamples:
        if len(tokens.document_offsets) < 3:
            raise UserError(
                "task=nsp draws its negatives from other documents, but a split of this corpus "
                "has only one: add documents or raise dataset.validation_fraction."
            )
        examples = PairExamples(
            tokens, self.config.max_length, self.config.next_prob, self.tokenizer, seed
        )
        if len(examples) < 2:
            raise UserError(
                "task=nsp needs paragraphs of two or more sentences, and this corpus has "
                f"{len(examples)}: choose another dataset or task.sentences."
            )
        return examples
