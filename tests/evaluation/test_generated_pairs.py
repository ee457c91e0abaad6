"""Minimal pairs made from a corpus: of its frequent words, balanced, the same for every run."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from bertexp.data.corpora import Document
from bertexp.data.corpora.corpus import CorpusStore
from bertexp.evaluation.grammar import Pair
from bertexp.evaluation.grammar.generated import generate_pairs
from bertexp.evaluation.grammar.lexicon import Words, takes_an
from bertexp.validation import UserError

FREQUENT, RARE = 20, 19
SENTENCES = [
    "The old key opens an empty box, or a door.",
    "Every user writes several new files, and each file has been valid.",
    "Two useful words were written by the child in this story.",
    "An hour was the final time that those children used the tables.",
    "These methods are called and a table is called a list by many users.",
    "That item can open an important door for few invalid items.",
    "The hours of the stories have been long, as one word should be.",
    "A method and a list must write the keys, doors, and lists of this row.",
]


class Corpus(CorpusStore):
    """Documents in memory."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts
        self.fingerprint = " ".join(texts)

    def documents(self, split: str, files: object = None) -> Iterator[Document]:
        yield Document("", [*self.texts], split)


CORPUS = Corpus(*FREQUENT * SENTENCES, *RARE * ["The girl saw some good games."])


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Pair]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERTEXP_CACHE", str(tmp_path_factory.mktemp("cache")))
        made = generate_pairs(CORPUS, "en")
        assert generate_pairs(CORPUS, "en") == made, "from the cache"
        patch.setenv("BERTEXP_CACHE", str(tmp_path_factory.mktemp("other")))
        assert generate_pairs(CORPUS, "en") == made, "anew"
    found = defaultdict(list)
    for pair in made:
        found[pair.phenomenon].append(pair)
    return found


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def test_all_words_are_frequent_in_the_training_text(pairs: dict[str, list[Pair]]) -> None:
    assert [*pairs] == [
        *("articles", "determiner_noun_agreement", "distractor_agreement", "quantifiers"),
        *("subject_verb_agreement", "verb_forms"),
    ], "too few different sentences for the order of words"
    counts = Counter(word for text in CORPUS.texts for word in words(text))
    used = {word for each in pairs.values() for pair in each for word in words(pair.good)}
    assert min(counts[word] for word in used) == FREQUENT
    # None of a noun of which the other form is missing, nor of one that is rare.
    assert not used & {"boxes", "time", "girl", "games"}


def test_the_two_sentences_differ_in_one_word(pairs: dict[str, list[Pair]]) -> None:
    for pair in (pair for each in pairs.values() for pair in each):
        good, bad = words(pair.good), words(pair.bad)
        assert len(good) == len(bad)
        assert sum(one != other for one, other in zip(good, bad, strict=True)) == 1
        assert pair.good[0].isupper() and pair.good[-1] == "."
        assert pair.bad[0].isupper() and pair.bad[-1] == "."
    for each in pairs.values():
        assert len({*each}) == len(each) >= 50
        # No sentence is right in one pair and wrong in another.
        assert not {pair.good for pair in each} & {pair.bad for pair in each}


@pytest.mark.parametrize(
    ("phenomenon", "plural"),
    [
        ("articles", r"an "),
        ("distractor_agreement", r".* (are|were|have been) "),
        ("quantifiers", r"(many|several|two|few) "),
        ("determiner_noun_agreement", r"(these|those) "),
    ],
)
def test_each_form_is_right_as_often_as_the_other(
    phenomenon: str, plural: str, pairs: dict[str, list[Pair]]
) -> None:
    right = [bool(re.match(plural, pair.good.lower())) for pair in pairs[phenomenon]]
    assert 0.4 < sum(right) / len(right) < 0.6


def test_words_are_swapped_within_sentences_in_any_language(empty_cache: Path) -> None:
    nouns = [f"{a}{b}" for a in ("ka", "lo", "mi", "nu") for b in ("ra", "te", "po")]
    texts = [
        f"Dut {a}, ein {b} wo das {c} hat." for a in nouns for b in nouns for c in nouns if a != b
    ]
    pairs = generate_pairs(Corpus(*texts), "de")
    assert {pair.phenomenon for pair in pairs} == {"word_order"}
    assert len(pairs) == 1000
    for pair in pairs:
        assert pair.good in texts
        good, bad = pair.good.split(), pair.bad.split()
        moved = [at for at in range(len(good)) if good[at] != bad[at]]
        assert len(moved) == 2
        assert moved[1] == moved[0] + 1
        assert moved[0] > 0 and moved[1] < len(good) - 1
        assert sorted(good) == sorted(bad)


def test_a_corpus_with_too_few_words_is_refused(empty_cache: Path) -> None:
    with pytest.raises(UserError, match="too few words that occur 20 times"):
        generate_pairs(Corpus(*RARE * SENTENCES[:1]), "en")


def test_forms_follow_the_rules_of_spelling_or_are_listed() -> None:
    class All(frozenset[str]):
        """Every word."""

        def __ge__(self, other: object) -> bool:
            return True

        def __contains__(self, word: object) -> bool:
            return True

    every = Words.among(All())
    nouns, verbs = dict(every.nouns), {base: (third, past) for third, base, past in every.verbs}
    assert [nouns[one] for one in ("key", "story", "match", "child")] == [
        *("keys", "stories", "matches", "children"),
    ]
    assert (verbs["copy"], verbs["write"], verbs["play"], verbs["use"]) == (
        ("copies", "copied"),
        ("writes", "written"),
        ("plays", "played"),
        ("uses", "used"),
    )
    assert verbs["pass"] == ("passes", "passed")
    assert all(len({third, base, past}) == 3 for third, base, past in every.verbs)
    an = {"apple", "hour", "unknown", "important", "object", "uncle"}
    assert {one for one in (*an, "user", "unit", "useful", "house", "year") if takes_an(one)} == an
