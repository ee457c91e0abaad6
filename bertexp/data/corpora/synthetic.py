"""A made-up language with a known distribution, and so with known best possible predictions."""

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
# The language and its documents do not depend on the run's own seed.
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
    """Topics, each a Markov chain over the same words; word number ``STOP`` is the ``.``.

    The ``.`` follows any other word with probability 1 / ``SENTENCE_WORDS``, and never itself.
    Shapes: B texts, L words in each, T topics, W words of the vocabulary.

    Attributes:
        transitions_TWW: probability of the next word (last axis) in each topic.
        stationary_TW: probability of a word at any place of a document in each topic.
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
        """Return the topics of random texts, shape (B,), and their words' numbers, (B, L)."""
        topics_B = generator.integers(len(self.stationary_TW), size=texts)
        uniform_BL = generator.random((texts, length))
        words_BL = np.empty((texts, length), dtype=np.int64)
        law_BW = self.stationary_TW[topics_B]
        for place in range(length):
            # Rounding can leave the last sum just below 1: the minimum stays in range.
            reached_BW = law_BW.cumsum(axis=1) <= uniform_BL[:, place, None]
            words_BL[:, place] = np.minimum(reached_BW.sum(axis=1), len(self.words) - 1)
            law_BW = self.transitions_TWW[topics_B, words_BL[:, place]]
        return topics_B, words_BL

    def log_probs(self, words_BL: Integers) -> Floats:
        """Return the exact log probability of each word at each place, given all visible words.

        No model can beat these predictions: the average of ``-log_probs`` at the hidden words is
        the lowest possible loss. The texts may be any stretches of documents. Padding shorter
        ones with ``HIDDEN`` at the end does not change the result. To a stretch chosen to begin
        with a sentence, prepend ``STOP``.

        Args:
            words_BL: numbers of words, ``HIDDEN`` for hidden ones.

        Returns:
            Natural logarithms, shape (B, L, W); 0 for the word at a visible place.

        Raises:
            ValueError: a text has probability 0, for example because of two ``.`` in a row.
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

    def next_log_probs(self, words_BL: Integers) -> Floats:
        """Return the exact log probability of each word given those before it, shape (B, L).

        ``words_BL`` may have ``HIDDEN`` at the end only, where the values mean nothing.
        """
        with np.errstate(divide="ignore"):
            first_TB = np.log(self.stationary_TW[:, words_BL[:, 0]])
            next_TBL = np.log(self.transitions_TWW[:, words_BL[:, :-1], words_BL[:, 1:]])
        # Of the text up to each word, in each topic.
        joint_TBL = np.concatenate([first_TB[..., None], next_TBL], axis=2).cumsum(axis=2)
        text_BL = np.logaddexp.reduce(joint_TBL, axis=0) - np.log(len(joint_TBL))
        return np.diff(text_BL, prepend=0)


def _forward_backward(
    words_BL: Integers, stationary_W: Floats, transitions_WW: Floats
) -> tuple[Floats, Floats]:
    """Return the log probability of the visible words, and each word's distribution given them."""
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
    """Return the rows scaled to sum to 1, and their original sums; rows of zeros stay zero."""
    total_B = weights_BW.sum(axis=1)
    return weights_BW / np.where(total_B > 0, total_B, 1)[:, None], total_B


def _stationary(transitions_WW: Floats) -> Floats:
    size = len(transitions_WW)
    equations = transitions_WW.T - np.eye(size)
    # One equation is redundant and is replaced by the sum of 1.
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

    A document begins and ends anywhere in its chain, often in mid-sentence, so that all of its
    stretches follow the same distribution, which ``Language.log_probs`` relies on.
    """

    def __init__(self, config: DatasetConfig) -> None:
        self._config = CORPORA.keys_of(config, SyntheticKeys)

    def fingerprint(self) -> str:
        """Includes numpy's version, since its draws may change between versions."""
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
