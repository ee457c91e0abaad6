"""Negatives: second segments that do not follow the first."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from bertexp import draws
from bertexp.pairs import NEGATIVES
from bertexp.pairs.segments import Segmentation, Spans
from bertexp.pairs.text import Text
from bertexp.validation import UserError

# Rounds of draws for all pairs at once, before the rest are drawn one by one.
REDRAWS = 16


@dataclass(frozen=True)
class Segments:
    """The starts and ends of each pair's two segments, in sentences; all of shape (N,)."""

    first_starts: np.ndarray
    first_ends: np.ndarray
    second_starts: np.ndarray
    second_ends: np.ndarray


class Negative(ABC):
    """A kind of negatives."""

    def __init__(self, segmentation: Segmentation) -> None:
        self.segmentation = segmentation
        self.text: Text = segmentation.text

    def possible(self) -> np.ndarray:
        """Return for each pair whether it has such a negative in some epoch."""
        return np.ones(len(self.segmentation.sentences), dtype=bool)

    @abstractmethod
    def draw(self, spans: Spans, states: np.ndarray) -> Segments:
        """Return negatives to replace ``spans``, drawn with ``states``, see ``draws``.

        Raises:
            UserError: the corpus has none.
        """


@NEGATIVES.register("swap")
class Swapped(Negative):
    """The two segments in reverse order (Lan et al. 2020, "ALBERT", section 3.1).

    Pairs that may read the same in both orders are left out.
    """

    def possible(self) -> np.ndarray:
        pairs, first, middle = self.segmentation.openings()
        alike = self.text.hashes[first] == self.text.hashes[middle]
        return np.bincount(pairs, alike, minlength=len(self.segmentation.sentences)) == 0

    def draw(self, spans: Spans, states: np.ndarray) -> Segments:
        return Segments(spans.middle, spans.end, spans.first, spans.middle)


class Elsewhere(Negative):
    """A second segment from elsewhere, from all places with the same probability.

    It has as many tokens as the segment that follows, so that its length does not give it away; a
    place too near to the end of its document is moved forward. A segment whose first sentence
    equals that of the true next segment is drawn again.
    """

    @abstractmethod
    def places(self, spans: Spans) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return where second segments may begin: in [a, b) and [c, d).

        The four arrays a, b, c and d are indices into ``segmentation.starts``, for each pair.
        """

    def reads_like_next(self, starts: np.ndarray, middles: np.ndarray) -> np.ndarray:
        """Return whether the first sentence equals that of the true next segment."""
        return self.text.hashes[starts] == self.text.hashes[middles]

    def draw(self, spans: Spans, states: np.ndarray) -> Segments:
        starts = self._draw_starts(spans, states)
        limits = self._limits(starts, spans)
        return Segments(
            spans.first,
            spans.middle,
            starts,
            self.segmentation.ends(starts, limits, self._sizes(spans)),
        )

    def _sizes(self, spans: Spans) -> np.ndarray:
        return self.text.offsets[spans.end] - self.text.offsets[spans.middle]

    def _limits(self, starts: np.ndarray, spans: Spans) -> np.ndarray:
        """Return where segments from ``starts`` must end: their document, or the first segment."""
        ends = self.text.document_offsets[self.text.document_of(starts) + 1]
        return np.where(starts < spans.first, np.minimum(ends, spans.first), ends)

    def _draw_starts(self, spans: Spans, states: np.ndarray) -> np.ndarray:
        places = self.places(spans)
        starts = np.zeros_like(spans.first)
        pending = np.arange(len(starts))
        for attempt in range(REDRAWS):
            a, b, c, d = (place[pending] for place in places)
            drawn = draws.integers(draws.combine(states[pending], attempt), b - a + d - c)
            place = np.where(drawn < b - a, a + drawn, c + drawn - (b - a))
            lowest = self.segmentation.starts[np.where(drawn < b - a, a, c)]
            starts[pending] = self._moved(
                self.segmentation.starts[place], lowest, spans.of(pending)
            )
            pending = pending[self.reads_like_next(starts[pending], spans.middle[pending])]
            if len(pending) == 0:
                return starts
        for pair in pending:
            ranges = [int(place[pair]) for place in places]
            starts[pair] = self._search(ranges, spans.middle[pair], states[pair : pair + 1])
        return starts

    def _moved(self, starts: np.ndarray, lowest: np.ndarray, spans: Spans) -> np.ndarray:
        latest = self.segmentation.latest(self._limits(starts, spans), self._sizes(spans))
        opening = self.text.document_offsets[self.text.document_of(starts)]
        return np.maximum(np.minimum(starts, latest), np.maximum(lowest, opening))

    def _search(self, ranges: list[int], middle: np.ndarray, state: np.ndarray) -> np.ndarray:
        a, b, c, d = ranges
        every = self.segmentation.starts[np.r_[a:b, c:d]]
        others = every[~self.reads_like_next(every, np.full_like(every, middle))]
        if len(others) == 0:
            raise UserError(
                "The corpus repeats one sentence too often to find pairs that do not follow "
                "each other: clean it, or choose another dataset."
            )
        return others[draws.integers(state, len(others))[0]]

    def _document_places(self, spans: Spans) -> tuple[np.ndarray, np.ndarray]:
        documents = self.text.document_of(spans.first)
        bounds = np.searchsorted(self.segmentation.starts, self.text.document_offsets)
        return bounds[documents], bounds[documents + 1]


@NEGATIVES.register("other_document")
class OtherDocument(Elsewhere):
    """From another document (Devlin et al. 2019, appendix A.2)."""

    def __init__(self, segmentation: Segmentation) -> None:
        super().__init__(segmentation)
        if len(self.text.document_offsets) < 3:
            raise UserError(
                "task.negatives=other_document draws from other documents, but a split of this "
                "corpus has only one: add documents, raise dataset.validation_fraction, or take "
                "task.negatives=same_document, any_sentence or swap."
            )

    def places(self, spans: Spans) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        begin, end = self._document_places(spans)
        count = np.full_like(begin, len(self.segmentation.starts))
        return np.zeros_like(begin), begin, end, count


@NEGATIVES.register("same_document")
class SameDocument(Elsewhere):
    """From elsewhere in the same document, neither inside the first segment nor right after it.

    Pairs of documents that are too short are left out.
    """

    def possible(self) -> np.ndarray:
        return self.segmentation.places_elsewhere() > 0

    def places(self, spans: Spans) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        begin, end = self._document_places(spans)
        first, middle = np.searchsorted(self.segmentation.starts, [spans.first, spans.middle])
        return begin, first, middle + 1, end


@NEGATIVES.register("any_sentence")
class AnySentence(Elsewhere):
    """From anywhere in the corpus, even the first segment itself, as in simple tutorials."""

    def places(self, spans: Spans) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        none = np.zeros_like(spans.first)
        return none, none + len(self.segmentation.starts), none, none


@NEGATIVES.register("any_sentence_or_next")
class AnySentenceOrNext(AnySentence):
    """From anywhere, even the true next segment: some of these negatives are positives."""

    def reads_like_next(self, starts: np.ndarray, middles: np.ndarray) -> np.ndarray:
        return np.zeros(len(starts), dtype=bool)
