"""Each strategy against what its paper says, computed directly."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bertexp.masking import STRATEGIES
from bertexp.masking import words as words_module
from bertexp.masking.config import FrequencyKeys, MaskingConfig, NgramKeys, ReplaceConfig, SpanKeys
from bertexp.masking.masker import Masker
from bertexp.masking.runs import collocation_scores, cut, find_collocations
from bertexp.masking.strategies import Context, WordStrategy
from bertexp.masking.words import RunHashes, Words, count_runs
from bertexp.validation import UserError

ALARM = 1e-9
OF_WORDS = [name for name in STRATEGIES.names() if issubclass(STRATEGIES[name], WordStrategy)]
BERT = ReplaceConfig(mask=0.8, random=0.1, keep=0.1)


def words_of(lab: Any, text: list[int]) -> list[list[tuple[int, ...]]]:
    """Cut a text into stretches of words, token by token."""
    stretches: list[list[list[int]]] = [[]]
    for token in text:
        if lab.is_special[token]:
            stretches.append([])
        elif lab.is_piece[token] and stretches[-1]:
            stretches[-1][-1].append(token)
        else:
            stretches[-1].append([token])
    return [[tuple(word) for word in stretch] for stretch in stretches]


def runs_of(lab: Any, size: int) -> Counter[tuple[tuple[int, ...], ...]]:
    """Count the runs of ``size`` words of the corpus, one by one."""
    return Counter(
        tuple(stretch[i : i + size])
        for text in lab.texts
        for stretch in words_of(lab, text)
        for i in range(len(stretch) - size + 1)
    )


def hash_of(run: tuple[tuple[int, ...], ...]) -> int:
    ids = np.array([token for word in run for token in word])
    return int(RunHashes(ids).of(np.array([0]), np.array([len(ids)]))[0])


@settings(deadline=None, max_examples=40)
@given(text=st.lists(st.integers(1, 59), min_size=1, max_size=60))
def test_units_of_whole_words_are_words(lab: Any, text: list[int]) -> None:
    text = [1 if token < 5 else token for token in text]
    ids = lab.padded([text])
    begins = lab.masker("whole_word").strategy.begins(
        ids, ~lab.is_special[ids], np.zeros(1, dtype=np.uint64)
    )
    expected, place = [], 1
    for stretch in words_of(lab, text):
        for word in stretch:
            expected.append(place)
            place += len(word)
        place += 1  # the special token behind it
    assert np.flatnonzero(begins & ~lab.is_special[ids]).tolist() == expected


def lengths(lab: Any, strategy: str, rows: int = 400, **config: Any) -> tuple[Any, Any]:
    """Return the lengths of units of one-token words, apart from the ends, and the beginnings."""
    ids = lab.padded([[7] * 200] * rows)
    masker = lab.masker(strategy, **config)
    starts, _ = masker.units(ids, ~lab.is_special[ids], np.arange(rows), 0)
    begins = starts[:, 1:-1] == np.arange(1, 201)
    inner = [np.diff(np.flatnonzero(row)[1:]) for row in begins]
    return np.concatenate(inner), begins


@pytest.mark.parametrize(
    ("strategy", "law", "config"),
    [
        ("span", [0.8**k for k in range(10)], {}),
        ("span", [0.5**k for k in range(4)], {"span": SpanKeys(p=0.5, max=4)}),
        ("ngram", [1.0] * 3, {}),
        ("ngram", [1.0] * 5, {"ngram": NgramKeys(max=5)}),
    ],
)
def test_run_lengths_follow_their_law_from_the_first_word_on(
    lab: Any, strategy: str, law: list[float], config: dict[str, Any]
) -> None:
    sizes, begins = lengths(lab, strategy, **config)
    expected = np.array(law) / np.sum(law)
    found = np.bincount(sizes, minlength=len(law) + 1)
    assert len(found) == len(law) + 1
    assert found[0] == 0
    # The last runs of a row are left out, which favours short ones a little: those that begin
    # early enough are all there.
    early = np.concatenate([np.diff(np.flatnonzero(r)[1:])[:10] for r in begins])
    early_counts = np.bincount(early, minlength=len(law) + 1)[1:]
    assert stats.chisquare(early_counts, expected * early_counts.sum()).pvalue > ALARM
    mean = (expected * np.arange(1, len(law) + 1)).sum()
    # A unit begins at the first word always, and at any later one as often as at any other.
    share = begins[:, 1:].mean(0)
    error = np.sqrt(1 / mean * (1 - 1 / mean) / len(begins))
    assert abs(share - 1 / mean).max() < 6 * error
    if strategy == "span" and not config:
        assert mean == pytest.approx(3.8, abs=0.01)


@settings(deadline=None)
@given(
    stretches=st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=40), max_size=6),
)
def test_cutting_follows_the_jumps(stretches: list[list[int]]) -> None:
    expected = []
    for stretch in stretches:
        next_begin = 0
        for place, size in enumerate(stretch):
            expected.append(place == next_begin)
            next_begin += size if place == next_begin else 0
    sizes = np.array([size for stretch in stretches for size in stretch], dtype=np.int64)
    ends = np.cumsum([len(stretch) for stretch in stretches], dtype=np.int64)
    limits = np.repeat(ends, [len(stretch) for stretch in stretches])
    places = np.arange(len(sizes))
    assert cut(Words(places, places + 1, limits), sizes).tolist() == expected


@pytest.mark.parametrize("chunk", [1 << 21, 1, 350])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_runs_are_counted_exactly(
    lab: Any, monkeypatch: pytest.MonkeyPatch, chunk: int, size: int
) -> None:
    monkeypatch.setattr(words_module, "CHUNK_TOKENS", chunk)
    found = count_runs(lab.corpus, lab.tokenizer, size)
    expected = {hash_of(run): count for run, count in runs_of(lab, size).items()}
    assert dict(zip(found.hashes.tolist(), found.counts.tolist(), strict=True)) == expected
    assert (np.diff(found.hashes.astype(object)) > 0).all()
    for place in range(0, len(found.hashes), 97):
        ids = lab.corpus.tokens[found.starts[place] : found.ends[place]]
        assert hash_of((tuple(ids.tolist()),)) == found.hashes[place]


def explanations(size: int) -> list[list[tuple[int, int]]]:
    """Return every way to cut ``size`` words into two or more parts."""
    ways = []
    for cuts in range(1, 2 ** (size - 1)):
        edges = [0, *(i + 1 for i in range(size - 1) if cuts >> i & 1), size]
        ways.append(list(itertools.pairwise(edges)))
    return ways


def test_pmi_is_that_of_the_paper(lab: Any) -> None:
    runs = {size: runs_of(lab, size) for size in range(1, 6)}
    totals = {size: sum(found.values()) for size, found in runs.items()}

    def probability(run: tuple[tuple[int, ...], ...]) -> float:
        return runs[len(run)][run] / totals[len(run)]

    scores = collocation_scores(lab.corpus, lab.tokenizer, min_count=3)
    for size in range(2, 6):
        table, found = scores[size]
        expected = {}
        for run, count in runs[size].items():
            if count >= 3:
                best = max(
                    math.prod(probability(run[a:b]) for a, b in way) for way in explanations(size)
                )
                expected[hash_of(run)] = math.log(probability(run) / best)
        got = dict(zip(table.hashes.tolist(), found.tolist(), strict=True))
        assert got == pytest.approx(expected, abs=1e-9)
    kept = find_collocations(lab.corpus, lab.tokenizer, 3, 0.5)
    for size, (table, found) in scores.items():
        assert len(kept[size]) <= round(0.5 * len(found))
        if len(kept[size]):
            worst = found[np.isin(table.hashes, kept[size])].min()
            left = found[~np.isin(table.hashes, kept[size])]
            assert worst > 0
            assert (left <= worst).all() or len(kept[size]) == (found > 0).sum()


def test_the_words_that_go_together_are_found_and_read_longest_first(lab: Any) -> None:
    masker = lab.masker("pmi")
    known = {size: set(found.tolist()) for size, found in masker.strategy.collocations.items()}
    assert hash_of(((20,), (21,))) in known[2]
    assert hash_of(((10,), (11,), (12,))) in known[3]
    for text in lab.texts[:20]:
        ids = lab.padded([text])
        starts, _ = masker.units(ids, ~lab.is_special[ids], np.zeros(1, dtype=np.int64), 0)
        begins = (starts[0] == np.arange(ids.shape[1])) & ~lab.is_special[ids[0]]
        expected, place = [], 1
        for stretch in words_of(lab, text):
            first = 0
            while first < len(stretch):
                size = next(
                    (n for n in (5, 4, 3, 2)
                     if first + n <= len(stretch)
                     and hash_of(tuple(stretch[first : first + n])) in known[n]),
                    1,
                )  # fmt: skip
                expected.append(place)
                place += sum(map(len, stretch[first : first + size]))
                first += size
            place += 1
        assert np.flatnonzero(begins).tolist() == expected


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
@settings(deadline=None, max_examples=15)
@given(prob=st.floats(0.01, 0.99))
def test_rates_are_in_proportion_to_rarity_and_add_up(
    lab: Any, exponent: float, prob: float
) -> None:
    strategy = lab.masker("frequency", frequency=FrequencyKeys(exponent=exponent)).strategy
    runs = runs_of(lab, 1)
    total, expected = 0, 0.0
    factor = []
    for (word,), count in runs.items():
        ids = np.array([[2, *word, 3]])
        weight = strategy.weights(ids, ~lab.is_special[ids])[0, 1]
        rate = min(1.0, weight * strategy.threshold(prob))
        total += count * len(word)
        expected += count * len(word) * rate
        if rate < 1:
            factor.append(rate * count**exponent)
    assert expected / total == pytest.approx(prob, rel=1e-9)
    assert factor == pytest.approx([factor[0]] * len(factor))


def test_a_word_the_corpus_does_not_have_has_a_typical_rate(lab: Any) -> None:
    strategy = lab.masker("frequency").strategy
    ids = np.array([[2, 7, *[50] * 30, 3]])
    assert strategy.weights(ids, ~lab.is_special[ids])[0, 1] == 1.0


@pytest.mark.parametrize("strategy", OF_WORDS)
def test_words_need_a_tokenizer_that_tells_them_apart(lab: Any, strategy: str) -> None:
    blind: Any = SimpleNamespace(**vars(lab.tokenizer) | {"knows_words": False})
    config = MaskingConfig(prob=0.15, strategy=strategy, replace=BERT)
    with pytest.raises(UserError, match=rf"^masking\.strategy={strategy}: .*no pieces"):
        Masker(Context(config, blind, lab.corpus), 0)


def test_a_corpus_too_small_to_score_is_said(lab: Any) -> None:
    config = MaskingConfig(prob=0.15, strategy="pmi", replace=BERT)
    with pytest.raises(UserError, match=r"masking\.pmi\.min_count") as error:
        Masker(Context(config, lab.tokenizer, lab.store([[7, 8, 9] * 3])), 0)
    assert "\n" not in str(error.value)
