"""The made-up language: its text, and the best possible predictions, counted out by hand."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest

from bertexp.data.config import SyntheticKeys
from bertexp.data.corpora import CORPORA
from bertexp.data.corpora.synthetic import HIDDEN, STOP, Language

TINY = SyntheticKeys(documents=2, topics=3, words=4, concentration=0.5)
USUAL = SyntheticKeys(documents=2, topics=8, words=64, concentration=0.05)


def enumerated(language: Language, words: list[int]) -> np.ndarray:
    """Return each place's law by adding up the probability of every text that fits."""
    size = len(language.words)
    totals = np.zeros((len(words), size))
    for text in product(range(size), repeat=len(words)):
        if any(seen not in (HIDDEN, word) for seen, word in zip(words, text, strict=True)):
            continue
        for start, step in zip(language.stationary_TW, language.transitions_TWW, strict=True):
            probability = start[text[0]]
            for word, following in pairwise(text):
                probability *= step[word, following]
            for place, word in enumerate(text):
                totals[place, word] += probability
    return totals / totals.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    "words",
    [
        [HIDDEN],
        [HIDDEN, 1, HIDDEN, HIDDEN, 2],
        [3, HIDDEN, STOP, HIDDEN, 1],
        [HIDDEN, HIDDEN, HIDDEN],
        [1, 2, 4],
    ],
)
def test_log_probs_agree_with_counting_every_text(words):
    language = Language.of(TINY)
    found = np.exp(language.log_probs(np.array([words])))[0]
    np.testing.assert_allclose(found, enumerated(language, words), atol=1e-12)


def test_filling_up_with_hidden_words_changes_nothing():
    language = Language.of(TINY)
    short = language.log_probs(np.array([[1, HIDDEN, 3]]))
    long = language.log_probs(np.array([[1, HIDDEN, 3, HIDDEN, HIDDEN], [HIDDEN] * 4 + [2]]))
    np.testing.assert_allclose(np.exp(short[0]), np.exp(long[0, :3]), atol=1e-12)


def test_impossible_text_is_refused():
    with pytest.raises(ValueError, match="text 1 cannot occur"):
        Language.of(TINY).log_probs(np.array([[1, 2], [STOP, STOP]]))


def test_no_place_of_a_text_is_special():
    language = Language.of(USUAL)
    following = np.einsum("tw,twv->tv", language.stationary_TW, language.transitions_TWW)
    np.testing.assert_allclose(following, language.stationary_TW, atol=1e-12)
    np.testing.assert_allclose(language.transitions_TWW.sum(axis=2), 1)


def test_context_is_worth_much_and_the_oracle_beats_simpler_predictors():
    language = Language.of(USUAL)
    generator = np.random.default_rng(7)
    _, words = language.draw(generator, 64, 128)
    hidden = generator.random(words.shape) < 0.15
    log_probs = language.log_probs(np.where(hidden, HIDDEN, words))
    oracle = -np.take_along_axis(log_probs, words[..., None], axis=2)[..., 0][hidden].mean()
    unigram_W = language.stationary_TW.mean(axis=0)
    pairs_WW = np.einsum("tw,twv->wv", language.stationary_TW, language.transitions_TWW)
    bigram_WW = pairs_WW / pairs_WW.sum(axis=1, keepdims=True)
    bigram = -np.log(bigram_WW[words[:, :-1], words[:, 1:]])[hidden[:, 1:]].mean()
    entropy = -(unigram_W * np.log(unigram_W)).sum()
    assert oracle < bigram - 1.5 < entropy - 1.5
    # What the oracle expects to lose is what it loses, which no other law would.
    safe = np.where(np.isneginf(log_probs), 0, log_probs)
    expected = -(np.exp(log_probs) * safe).sum(axis=2)[hidden].mean()
    assert oracle == pytest.approx(expected, abs=0.1)


def test_two_sentences_tell_the_topic():
    language = Language.of(USUAL)
    topics, words = language.draw(np.random.default_rng(8), 200, 20)
    with np.errstate(divide="ignore"):
        steps = np.log(language.transitions_TWW[:, words[:, :-1], words[:, 1:]]).sum(axis=2)
    assert (steps.argmax(axis=0) == topics).mean() > 0.98


def test_documents_are_prose_and_the_same_every_time(configure):
    def documents(count: int) -> list:
        synthetic = {"documents": count}
        return list(CORPORA["synthetic"](configure("synthetic", synthetic=synthetic)).documents())

    few, many = documents(3), documents(300)
    assert many[:3] == few
    assert len(many) == 300
    language = Language.of(configure("synthetic").synthetic)
    assert len(set(language.words)) == 65
    assert all(word.isalpha() and 3 <= len(word) <= 7 for word in language.words[1:])
    for document in many:
        text = " ".join(document.paragraphs)
        words = text.lower().replace(".", " . ").split()
        assert len(words) == 250
        assert set(words) <= set(language.words)
        starts = [sentence.strip()[:1] for sentence in text.split(".")]
        assert all(start.isupper() for start in starts[1:] if start)
