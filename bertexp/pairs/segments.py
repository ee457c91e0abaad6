"""Segmentations: how a document is cut into the two segments of each pair."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from bertexp import draws
from bertexp.arrays import ranges
from bertexp.pairs import SEGMENTS
from bertexp.pairs.text import Text


class Rows:
    """A dataclass of arrays with an entry for each pair."""

    def of(self, chosen: np.ndarray) -> Self:
        return type(self)(*(getattr(self, each.name)[chosen] for each in fields(self)))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Spans(Rows):
    """The first segment of each pair and the one that follows; all of shape (N,).

    Attributes:
        first: the first sentence of the first segment.
        middle: the first sentence of the following segment, where the first segment ends.
        end: the end of the following segment, excluded.
        capacity: the most tokens of both together.
    """

    first: np.ndarray
    middle: np.ndarray
    end: np.ndarray
    capacity: np.ndarray


class Segmentation(ABC):
    """Cuts a text into pairs of segments, a fixed number of pairs an epoch.

    Args:
        capacity: the most tokens of a pair's two segments together.
        short_prob: the share of pairs that are shortened, if the segmentation does that.

    Attributes:
        sentences: a sentence of each pair's document, the same in every epoch; shape (N,).
        starts: the sentences with which a second segment may begin, in order.
        cuts_anywhere: whether long segments lose tokens at a random end, instead of at their back.
    """

    sentences: np.ndarray
    starts: np.ndarray
    cuts_anywhere = False

    def __init__(self, text: Text, capacity: int, short_prob: float) -> None:
        self.text, self.capacity, self.short_prob = text, capacity, short_prob

    @abstractmethod
    def draw(self, seed: int, epoch: int) -> Spans:
        """Return the pairs of ``epoch``, with segments that follow each other."""

    @abstractmethod
    def ends(self, starts: np.ndarray, limits: np.ndarray, capacities: np.ndarray) -> np.ndarray:
        """Return the ends of segments that begin with the sentences ``starts``.

        Args:
            starts: some of ``self.starts``.
            limits: the first sentences after the segments' longest extent.
            capacities: the segments' tokens, if the segmentation has no size of its own.
        """

    def latest(self, ends: np.ndarray, capacities: np.ndarray) -> np.ndarray:
        """Return the last sentences that begin a full segment before ``ends``.

        Args:
            ends: the sentences after the last possible ones.
            capacities: the tokens of a full segment.
        """
        return ends - 1

    @abstractmethod
    def openings(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return all sentences with which the segments of a pair may begin in any epoch.

        They are three arrays of the same length: the number of the pair, the first sentence of its
        first segment, and that of the segment that follows.
        """

    def places_elsewhere(self) -> np.ndarray:
        """Return a lower bound on the other segments in each pair's document, shape (N,).

        They begin outside of the first segment and differ from the one that follows, in any epoch;
        segments that begin with the same sentence count once.
        """
        return self._different(self.starts)[self.text.document_of(self.sentences)] - 2

    def _different(self, starts: np.ndarray) -> np.ndarray:
        named = np.stack([self.text.document_of(starts), self.text.hashes[starts].view(np.int64)])
        documents = np.unique(named, axis=1)[0]
        return np.bincount(documents, minlength=len(self.text.document_offsets) - 1)


@SEGMENTS.register("sentence")
class SingleSentences(Segmentation):
    """Two sentences: a pair for each paragraph with two sentences or more."""

    def __init__(self, text: Text, capacity: int, short_prob: float) -> None:
        super().__init__(text, capacity, short_prob)
        sizes = np.diff(text.paragraph_offsets)
        several = np.flatnonzero(sizes > 1)
        self.sentences = text.paragraph_offsets[several]
        self._choices = sizes[several] - 1  # any sentence but the last may be the first
        self.starts = np.arange(len(text.offsets) - 1)

    def draw(self, seed: int, epoch: int) -> Spans:
        state = draws.states("pair-start", seed, epoch, np.arange(len(self.sentences)))
        first = self.sentences + draws.integers(state, self._choices)
        return Spans(first, first + 1, first + 2, np.full_like(first, self.capacity))

    def openings(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        pairs, first = _counted(self.sentences, self._choices)
        return pairs, first, first + 1

    def ends(self, starts: np.ndarray, limits: np.ndarray, capacities: np.ndarray) -> np.ndarray:
        return starts + 1


@SEGMENTS.register("paragraph")
class Paragraphs(Segmentation):
    """Two paragraphs: a pair for each that is not the last of its document."""

    def __init__(self, text: Text, capacity: int, short_prob: float) -> None:
        super().__init__(text, capacity, short_prob)
        self.starts, self._ends = text.paragraph_offsets[:-1], text.paragraph_offsets[1:]
        last = np.isin(self._ends, text.document_offsets)
        self._paragraphs = np.flatnonzero(~last)
        self.sentences = self.starts[self._paragraphs]

    def draw(self, seed: int, epoch: int) -> Spans:
        middle, end = self._ends[self._paragraphs], self._ends[self._paragraphs + 1]
        return Spans(self.sentences, middle, end, np.full_like(middle, self.capacity))

    def openings(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return np.arange(len(self.sentences)), self.sentences, self._ends[self._paragraphs]

    def ends(self, starts: np.ndarray, limits: np.ndarray, capacities: np.ndarray) -> np.ndarray:
        return self._ends[np.searchsorted(self.starts, starts)]


@SEGMENTS.register("fill", reads=("task.short_prob",))
class FilledSegments(Segmentation):
    """As many sentences as fit, as in BERT (Devlin et al. 2019, appendix A.2).

    A document is cut into chunks of at least two consecutive sentences that just fill the
    capacity, always at the same places. In each epoch a chunk is split after a newly drawn
    sentence: its front is the first segment, its back the one that follows. A newly drawn share
    ``short_prob`` of the chunks is shortened to a random length of at least 2 tokens.

    BERT's code continues after the first segment if the second is from elsewhere, and makes every
    chunk of one sentence a negative, so that more than half of its pairs are negatives. Here the
    number of pairs does not depend on the draws.
    """

    cuts_anywhere = True

    def __init__(self, text: Text, capacity: int, short_prob: float) -> None:
        super().__init__(text, capacity, short_prob)
        self.sentences, self._ends = self._chunks()
        self.starts = np.arange(len(text.offsets) - 1)

    def _chunks(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the first sentence of each chunk and its end."""
        sentences = np.arange(len(self.text.offsets) - 1)
        document_ends = self.text.document_offsets[self.text.document_of(sentences) + 1]
        capacity = np.full_like(sentences, self.capacity)
        ends = np.minimum(
            np.maximum(self._reach(sentences, capacity), sentences + 2), document_ends
        )
        # A single last sentence joins the chunk before it.
        ends = np.where(document_ends - ends == 1, document_ends, ends)
        starts, sentence, jumps = [], 0, ends.tolist()
        while sentence < len(jumps):
            starts.append(sentence)
            sentence = jumps[sentence]
        first = np.array(starts, dtype=np.int64)
        first = first[ends[first] - first > 1]
        return first, ends[first]

    def draw(self, seed: int, epoch: int) -> Spans:
        pairs = np.arange(len(self.sentences))
        length_state = draws.states("pair-length", seed, epoch, pairs)
        is_short = draws.uniform(length_state) < self.short_prob
        drawn = 2 + draws.integers(draws.combine(length_state, 0), self.capacity - 1)
        capacity = np.where(is_short, drawn, self.capacity)
        reach = np.maximum(self._reach(self.sentences, capacity), self.sentences + 2)
        end = np.where(is_short, np.minimum(reach, self._ends), self._ends)
        state = draws.states("pair-start", seed, epoch, pairs)
        middle = self.sentences + 1 + draws.integers(state, end - self.sentences - 1)
        return Spans(self.sentences, middle, end, capacity)

    def openings(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        pairs, middle = _counted(self.sentences + 1, self._ends - self.sentences - 1)
        return pairs, self.sentences[pairs], middle

    def ends(self, starts: np.ndarray, limits: np.ndarray, capacities: np.ndarray) -> np.ndarray:
        return np.minimum(np.maximum(self._reach(starts, capacities), starts + 1), limits)

    def latest(self, ends: np.ndarray, capacities: np.ndarray) -> np.ndarray:
        offsets = self.text.offsets
        return np.searchsorted(offsets, offsets[ends] - capacities, side="right") - 1

    def places_elsewhere(self) -> np.ndarray:
        # A pair may fill its chunk, so only places outside of it count.
        sentences = np.arange(len(self.text.offsets) - 1)
        chunks = np.searchsorted(self.sentences, sentences, side="right") - 1
        documents = self.text.document_of(sentences)
        named = np.stack([documents, self.text.hashes.view(np.int64)])
        _, sentence_N = np.unique(named, axis=1, return_inverse=True)
        lowest = np.full(sentence_N.max(initial=0) + 1, len(chunks))
        highest = np.full_like(lowest, -1)
        np.minimum.at(lowest, sentence_N, chunks)
        np.maximum.at(highest, sentence_N, chunks)
        nowhere_else = np.bincount(lowest[lowest == highest].clip(0), minlength=len(self.sentences))
        different = self._different(self.starts)[self.text.document_of(self.sentences)]
        return different - nowhere_else - 1

    def _reach(self, starts: np.ndarray, capacities: np.ndarray) -> np.ndarray:
        """Return the end of the fewest sentences from ``starts`` that fill ``capacities``."""
        offsets = self.text.offsets
        return np.searchsorted(offsets, offsets[starts] + capacities, side="left")


def _counted(starts: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for every i ``counts[i]`` numbers from ``starts[i]`` on, and the i of each."""
    return np.repeat(np.arange(len(starts)), counts), ranges(counts, starts)
