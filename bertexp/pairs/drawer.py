"""The pairs of segments of every epoch, a pure function of seed and epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from bertexp import draws
from bertexp.pairs import NEGATIVES, NEXT
from bertexp.pairs.negatives import Negative, Segments
from bertexp.pairs.segments import Rows, Segmentation, Spans


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
        return np.minimum(self.kinds, 1)


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
