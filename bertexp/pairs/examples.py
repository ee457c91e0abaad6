"""Examples that are pairs of segments, a pure function of seed and epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import torch

from bertexp import draws
from bertexp.data.tokens.store import TokenStore
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.objectives.batch import Batch, written
from bertexp.objectives.config import TaskConfig
from bertexp.objectives.examples import Examples
from bertexp.objectives.positions import use_first_position
from bertexp.pairs import NEGATIVES, NEXT, SEGMENTS, negative_shares
from bertexp.pairs.negatives import Negative, Segments
from bertexp.pairs.segments import Rows, Segmentation, Spans
from bertexp.pairs.text import Text
from bertexp.validation import UserError

IS_NEXT, NOT_NEXT = 0, 1


@dataclass(frozen=True)
class Pairs(Rows):
    """The pairs of one epoch; all of shape (N,).

    Attributes:
        kinds: 0 where the second segment follows, else the number of the kind of negative, see
            ``PairDrawer.kinds``.
        first_starts, first_sizes, second_starts, second_sizes: in tokens.
        first_sentences, second_sentences: their first sentences.
    """

    kinds: np.ndarray
    first_starts: np.ndarray
    first_sizes: np.ndarray
    second_starts: np.ndarray
    second_sizes: np.ndarray
    first_sentences: np.ndarray
    second_sentences: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """0 where the second segment follows, 1 where it does not, as in ``transformers``."""
        return np.where(self.kinds == 0, IS_NEXT, NOT_NEXT)


class PairDrawer:
    """Draws the pairs of every epoch.

    Exactly ``round(N * next_prob)`` of an epoch's N pairs follow each other; the others have the
    kinds of negatives in their exact shares, to within one pair.

    Args:
        shares: the kinds of negatives with their shares, which add up to 1.
        dynamic: whether every epoch has new pairs, or all have those of the first.

    Attributes:
        kinds: names by number, the first for pairs that follow.
        sentences: a sentence of each pair's document, shape (N,).
    """

    def __init__(
        self,
        segmentation: Segmentation,
        shares: Mapping[str, float],
        next_prob: float,
        dynamic: bool,
        seed: int,
    ) -> None:
        self.kinds = (NEXT, *shares)
        self._segmentation = segmentation
        self._negatives: list[Negative] = [NEGATIVES[kind](segmentation) for kind in shares]
        self._shares = (next_prob, *((1 - next_prob) * share for share in shares.values()))
        self._dynamic = dynamic
        self._seed = seed
        possible = np.logical_and.reduce([negative.possible() for negative in self._negatives])
        self._chosen = np.flatnonzero(possible)
        self.sentences = segmentation.sentences[self._chosen]
        self._pairs = draws.LastEpochs(self._draw)

    def pairs(self, epoch: int) -> Pairs:
        return self._pairs(epoch if self._dynamic else 0)

    def _draw(self, epoch: int) -> Pairs:
        spans = self._segmentation.draw(self._seed, epoch).of(self._chosen)
        kinds = self._draw_kinds(epoch)
        states = draws.states("pair-negative", self._seed, epoch, self._chosen)
        starts = np.stack([spans.first, spans.middle, spans.middle, spans.end])
        for number, negative in enumerate(self._negatives, start=1):
            own = np.flatnonzero(kinds == number)
            drawn = negative.draw(spans.of(own), states[own])
            starts[:, own] = [getattr(drawn, field.name) for field in fields(Segments)]
        return self._cut(spans, kinds, Segments(*starts), epoch)

    def _draw_kinds(self, epoch: int) -> np.ndarray:
        state = draws.states("pair-label", self._seed, epoch, self._chosen)
        bounds = np.round(np.cumsum(self._shares) * len(state)).astype(np.int64)
        kinds = np.empty(len(state), dtype=np.int64)
        order = np.argsort(state)
        kinds[order] = np.searchsorted(bounds[:-1], np.arange(len(state)), side="right")
        return kinds

    def _cut(self, spans: Spans, kinds: np.ndarray, chosen: Segments, epoch: int) -> Pairs:
        offsets = self._segmentation.text.offsets
        first, second = offsets[chosen.first_starts], offsets[chosen.second_starts]
        a, b = offsets[chosen.first_ends] - first, offsets[chosen.second_ends] - second
        half = spans.capacity // 2
        size_a = np.minimum(a, np.maximum(spans.capacity - b, spans.capacity - half))
        size_b = np.minimum(b, np.maximum(spans.capacity - a, half))
        if self._segmentation.cuts_anywhere:
            state = draws.states("pair-cut", self._seed, epoch, self._chosen)
            first = first + (a - size_a) * draws.integers(state, 2)
            second = second + (b - size_b) * draws.integers(draws.combine(state, 0), 2)
        sentences = (chosen.first_starts, chosen.second_starts)
        return Pairs(kinds, first, size_a, second, size_b, *sentences)


class PairExamples(Examples):
    """Pairs of segments, some of which follow each other, as they were written.

    Args:
        tokens: the split, cut into sentences.
        name: of the objective that predicts whether the second segment follows; None if none does.

    Raises:
        UserError: the corpus has no such pairs.
    """

    def __init__(
        self,
        tokens: TokenStore,
        config: TaskConfig,
        tokenizer: Tokenizer,
        seed: int,
        name: str | None,
    ) -> None:
        self._text = Text(tokens)
        capacity = config.max_length - tokenizer.special_in_pair
        self.drawer = _drawer(self._text, config, config.segments, seed, capacity)
        self._pad_to, self._tokenizer, self._name = config.pad_to, tokenizer, name
        if len(self) < 2:
            raise _too_few(self._text, config, seed, capacity)

    def __len__(self) -> int:
        return len(self.drawer.sentences)

    def documents(self) -> np.ndarray:
        return self._text.document_of(self.drawer.sentences)

    def lengths(self, epoch: int) -> np.ndarray:
        pairs = self.drawer.pairs(epoch)
        return pairs.first_sizes + pairs.second_sizes + self._tokenizer.special_in_pair

    def strata(self, epoch: int) -> np.ndarray:
        return self.drawer.pairs(epoch).kinds

    def places(self, epoch: int, example_ids: np.ndarray) -> np.ndarray:
        """Return the segments' places in their paragraphs, from 0 to 1, shape (batch, 2)."""
        pairs = self.drawer.pairs(epoch).of(example_ids)
        both = np.stack([pairs.first_sentences, pairs.second_sentences], axis=1)
        return self._text.place_in_paragraph(both)

    def shares(self, epoch: int) -> dict[str, float]:
        counts = np.bincount(self.strata(epoch), minlength=len(self.drawer.kinds))
        assert self.drawer.kinds[0] == NEXT
        return dict(zip(self.drawer.kinds, (counts / len(self)).tolist(), strict=True))

    def batch(self, epoch: int, example_ids: np.ndarray) -> Batch:
        pairs = self.drawer.pairs(epoch).of(example_ids)
        tokens, tokenizer = self._text.tokens, self._tokenizer
        segments = (pairs.first_starts, pairs.first_sizes, pairs.second_starts, pairs.second_sizes)
        rows = [
            tokenizer.sequence(tokens[a : a + size_a], tokens[b : b + size_b])
            for a, size_a, b, size_b in zip(*segments, strict=True)
        ]
        # Only the closing token comes after the second segment.
        second_B = pairs.first_sizes + tokenizer.special_in_pair - 1
        batch = written(example_ids, rows, tokenizer.pad_id, self._pad_to, second_B)
        if self._name is None:
            return batch
        return use_first_position(batch, self._name, torch.from_numpy(pairs.labels))


def _drawer(text: Text, config: TaskConfig, segments: str, seed: int, capacity: int) -> PairDrawer:
    segmentation = SEGMENTS[segments](text, capacity, config.short_prob)
    shares = negative_shares(config.negatives)
    return PairDrawer(segmentation, shares, config.next_prob, config.dynamic, seed)


def _too_few(text: Text, config: TaskConfig, seed: int, capacity: int) -> UserError:
    drawers = {name: _drawer(text, config, name, seed, capacity) for name in SEGMENTS.names()}
    found = {name: len(drawer.sentences) for name, drawer in drawers.items()}
    sizes = np.diff(text.paragraph_offsets)
    counts = [f"{n} with {size}" for size, n in enumerate(np.bincount(sizes)[1:4], 1) if n]
    if more := int((sizes > 3).sum()):
        counts.append(f"{more} with more")
    others = [f"task.segments={name} finds {n}" for name, n in found.items() if n > 1]
    advice = "other task.negatives or task.sentences, or longer documents, may give some"
    return UserError(
        f"task.segments={config.segments} with "
        f"task.negatives={', '.join(negative_shares(config.negatives))} finds "
        f"{found[config.segments]} pairs in {len(sizes)} paragraphs of a split (sentences in each: "
        f"{', '.join(counts)}), which are {len(text.document_offsets) - 1} documents; "
        f"{', '.join(others) or advice}."
    )
