"""The pairs of an epoch: a pure function of seed and epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from bertexp import draws
from bertexp.pairs import NEGATIVES, NEXT
from bertexp.pairs.negatives import Negative, Segments
from bertexp.pairs.segments import Segmentation, Spans

IS_NEXT, NOT_NEXT = 0, 1


@dataclass(frozen=True)
class Pairs:
    """The pairs of one epoch; all of shape (N,).

    Attributes:
        kinds: 0 where the second segment follows, else the number of the kind of negative, see
            ``PairDrawer.kinds``.
        first_starts, first_sizes: the first segment, in tokens.
        second_starts, second_sizes: the second one.
        first_sentences, second_sentences: the sentences that they begin with.
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

    def of(self, chosen: np.ndarray) -> Pairs:
        """Return some of the pairs, by number."""
        return Pairs(*(getattr(self, field.name)[chosen] for field in fields(self)))


class PairDrawer:
    """Draws the pairs of every epoch.

    Exactly ``round(N * next_prob)`` of an epoch's N pairs follow each other, and the others are
    of the kinds of negatives in their exact shares, to within one.

    Args:
        segmentation: what the segments are.
        shares: the kinds of negatives and their shares, which add up to 1.
        next_prob: share of the pairs that follow.
        dynamic: whether every epoch has pairs of its own, or all have those of the first.
        seed: the run's seed.

    Attributes:
        kinds: names by number; the first is that of pairs that follow.
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
        """Return the pairs of ``epoch``."""
        return self._pairs(epoch if self._dynamic else 0)

    def _draw(self, epoch: int) -> Pairs:
        spans = self._segmentation.draw(self._seed, epoch).of(self._chosen)
        kinds = self._draw_kinds(epoch)
        states = draws.combine(draws.key("pair-negative", self._seed, epoch), self._chosen)
        starts = np.stack([spans.first, spans.middle, spans.middle, spans.end])
        for number, negative in enumerate(self._negatives, start=1):
            own = np.flatnonzero(kinds == number)
            drawn = negative.draw(spans.of(own), states[own])
            starts[:, own] = [getattr(drawn, field.name) for field in fields(Segments)]
        return self._cut(spans, kinds, Segments(*starts), epoch)

    def _draw_kinds(self, epoch: int) -> np.ndarray:
        """Return the kind of each pair, every kind in its exact share."""
        state = draws.combine(draws.key("pair-label", self._seed, epoch), self._chosen)
        bounds = np.round(np.cumsum(self._shares) * len(state)).astype(np.int64)
        kinds = np.empty(len(state), dtype=np.int64)
        order = np.argsort(state)
        kinds[order] = np.searchsorted(bounds[:-1], np.arange(len(state)), side="right")
        return kinds

    def _cut(self, spans: Spans, kinds: np.ndarray, chosen: Segments, epoch: int) -> Pairs:
        """Return the pairs in tokens, the longer segment cut until both fit."""
        offsets = self._segmentation.text.offsets
        first, second = offsets[chosen.first_starts], offsets[chosen.second_starts]
        a, b = offsets[chosen.first_ends] - first, offsets[chosen.second_ends] - second
        half = spans.room // 2
        size_a = np.minimum(a, np.maximum(spans.room - b, spans.room - half))
        size_b = np.minimum(b, np.maximum(spans.room - a, half))
        if self._segmentation.cuts_anywhere:
            state = draws.combine(draws.key("pair-cut", self._seed, epoch), self._chosen)
            first = first + (a - size_a) * draws.integers(state, 2)
            second = second + (b - size_b) * draws.integers(draws.combine(state, 0), 2)
        sentences = (chosen.first_starts, chosen.second_starts)
        return Pairs(kinds, first, size_a, second, size_b, *sentences)
