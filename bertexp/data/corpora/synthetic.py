"""A made-up language with a known law, so that the best possible predictions are known too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from bertexp.data.cache import fingerprint
from bertexp.data.config import DatasetConfig, SyntheticKeys
from bertexp.data.corpora import CORPORA, Corpus, Document

VERSION = 1
# The language and its documents are the same for every run, whatever the run's own seed.
SEED = 1906
STOP = 0
HIDDEN = -1
SENTENCE_WORDS = 10
PARAGRAPH_SENTENCES = 5
DOCUMENT_WORDS = 250
DOCUMENTS_AT_ONCE = 256

_CONSONANTS = list("bdfgklmnprstvz")
_VOWELS = list("aeiou")

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Language:
    """Topics, each a Markov chain over the same words, of which number ``STOP`` is the ``.``.

    The ``.`` follows any other word with probability 1 / ``SENTENCE_WORDS`` and never itself.
    Shapes: B texts, L words in each, T topics, W words of the vocabulary.

    Attributes:
        transitions_TWW: in each topic, the probability of the next word (last axis).
        stationary_TW: in each topic, the probability of a word at any place of a document.
    """

    words: list[str]
    transitions_TWW: Floats
    stationary_TW: Floats

    @classmethod
    def of(cls, config: SyntheticKeys) -> Language:
        generator = np.random.default_rng(SEED)
        count = config.words
        words = [".", *_pseudo_words(generator, count)]
        transitions = np.empty((config.topics, count + 1, count + 1))
        concentrations = np.full(count, config.concentration)
        transitions[..., 1:] = generator.dirichlet(concentrations, (config.topics, count + 1))
        transitions[:, 1:, 1:] *= 1 - 1 / SENTENCE_WORDS
        transitions[:, 1:, STOP] = 1 / SENTENCE_WORDS
        transitions[:, STOP, STOP] = 0
        return cls(words, transitions, np.stack([_stationary(chain) for chain in transitions]))

    def draw(
        self, generator: np.random.Generator, texts: int, length: int
    ) -> tuple[Integers, Integers]:
        """Return the topics of ``texts`` random texts, and their words' numbers."""
        topics_B = generator.integers(len(self.stationary_TW), size=texts)
        uniform_BL = generator.random((texts, length))
        words_BL = np.empty((texts, length), dtype=np.int64)
        law_BW = self.stationary_TW[topics_B]
        for place in range(length):
            # Rounding can leave the last sum just below 1: the smaller of two keeps it in range.
            reached_BW = law_BW.cumsum(axis=1) <= uniform_BL[:, place, None]
            words_BL[:, place] = np.minimum(reached_BW.sum(axis=1), len(self.words) - 1)
            law_BW = self.transitions_TWW[topics_B, words_BL[:, place]]
        return topics_B, words_BL

    def log_probs(self, words_BL: Integers) -> Floats:
        """Return the exact log probability of each word at each place, given all visible words.

        These are the predictions no model can beat: the average of ``-log_probs`` at the words
        that were hidden is the least loss there is. Any stretch of a document will do, and
        texts of different lengths may be filled up with ``HIDDEN`` at the end, which changes
        nothing. For a stretch cut out to begin with a sentence, put ``STOP`` before it.

        Args:
            words_BL: numbers of words, ``HIDDEN`` where the word is not to be seen.

        Returns:
            Natural logarithms, of shape (B, L, W); at a visible place 0 for its word.

        Raises:
            ValueError: a text that has probability 0, such as one with two ``.`` in a row.
        """
        words_BL = np.asarray(words_BL)
        evidence_TB = np.empty((len(self.stationary_TW), len(words_BL)))
        posterior_TBLW = np.empty((len(evidence_TB), *words_BL.shape, len(self.words)))
        chains = zip(self.stationary_TW, self.transitions_TWW, strict=True)
        for topic, (stationary_W, transitions_WW) in enumerate(chains):
            evidence_TB[topic], posterior_TBLW[topic] = _forward_backward(
                words_BL, stationary_W, transitions_WW
            )
        best_B = evidence_TB.max(axis=0)
        if np.isneginf(best_B).any():
            raise ValueError(f"text {np.argmin(best_B)} cannot occur in this language")
        weights_TB = np.exp(evidence_TB - best_B)
        weights_TB /= weights_TB.sum(axis=0)
        with np.errstate(divide="ignore"):
            found_BLW: Floats = np.log(np.einsum("tb,tblw->blw", weights_TB, posterior_TBLW))
        return found_BLW


def _forward_backward(
    words_BL: Integers, stationary_W: Floats, transitions_WW: Floats
) -> tuple[Floats, Floats]:
    """Return the log probability of what is visible, and the law of each word given it."""
    hidden_BL1 = (words_BL == HIDDEN)[..., None]
    allowed_BLW = hidden_BL1 | (words_BL[..., None] == np.arange(len(stationary_W)))
    law_BLW = np.empty(allowed_BLW.shape)
    evidence_B = np.zeros(len(words_BL))
    expected_BW = np.broadcast_to(stationary_W, (len(words_BL), len(stationary_W)))
    for place in range(words_BL.shape[1]):
        law_BLW[:, place], total_B = _normalised(expected_BW * allowed_BLW[:, place])
        with np.errstate(divide="ignore"):
            evidence_B += np.log(total_B)
        expected_BW = law_BLW[:, place] @ transitions_WW
    later_BW = np.ones_like(expected_BW)
    for place in reversed(range(words_BL.shape[1])):
        law_BLW[:, place], _ = _normalised(law_BLW[:, place] * later_BW)
        later_BW, _ = _normalised((later_BW * allowed_BLW[:, place]) @ transitions_WW.T)
    return evidence_B, law_BLW


def _normalised(weights_BW: Floats) -> tuple[Floats, Floats]:
    """Return rows that sum to 1, and their former sums; rows of zeros stay."""
    total_B = weights_BW.sum(axis=1)
    return weights_BW / np.where(total_B > 0, total_B, 1)[:, None], total_B


def _stationary(transitions_WW: Floats) -> Floats:
    """Return the probabilities that a step of the chain leaves unchanged."""
    size = len(transitions_WW)
    equations = transitions_WW.T - np.eye(size)
    # One equation follows from the others; that they sum to 1 takes its place.
    equations[-1] = 1
    solution: Floats = np.linalg.solve(equations, np.eye(size)[-1]).clip(min=0)
    solution /= solution.sum()
    return solution


def _pseudo_words(generator: np.random.Generator, count: int) -> list[str]:
    words: dict[str, None] = {}
    while len(words) < count:
        places = range(generator.integers(3, 8))
        letters = [generator.choice(_CONSONANTS if place % 2 == 0 else _VOWELS) for place in places]
        words["".join(letters)] = None
    return list(words)


@CORPORA.register("synthetic")
class SyntheticCorpus(Corpus):
    """Documents of ``DOCUMENT_WORDS`` words in a made-up language, each about one topic.

    A document begins anywhere in its chain and ends anywhere, often in mid-sentence: so any
    stretch of it has the same law, which ``Language.log_probs`` needs.
    """

    def __init__(self, config: DatasetConfig) -> None:
        self._config = CORPORA.keys_of(config, SyntheticKeys)

    def fingerprint(self) -> str:
        """Depends on numpy too, whose draws may change between versions."""
        return fingerprint([VERSION, np.__version__, asdict(self._config)])

    def language(self) -> Language:
        return Language.of(self._config)

    def documents(self) -> Iterator[Document]:
        """A larger corpus begins with the documents of a smaller one."""
        language = self.language()
        for first in range(0, self._config.documents, DOCUMENTS_AT_ONCE):
            generator = np.random.default_rng([SEED, first])
            topics_B, words_BL = language.draw(generator, DOCUMENTS_AT_ONCE, DOCUMENT_WORDS)
            rows = zip(topics_B, words_BL, strict=True)
            for number, (topic, row) in enumerate(rows, start=first):
                if number < self._config.documents:
                    words = [language.words[word] for word in row]
                    yield Document(f"document {number}, topic {topic}", _paragraphs(words))


def _paragraphs(words: list[str]) -> list[str]:
    sentences = re.findall(r"[^.]*\.|[^.]+$", " ".join(words))
    written = [sentence.strip().capitalize().replace(" .", ".") for sentence in sentences]
    starts = range(0, len(written), PARAGRAPH_SENTENCES)
    return [" ".join(written[start : start + PARAGRAPH_SENTENCES]) for start in starts]
