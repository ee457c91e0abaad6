"""Minimal pairs made from a corpus, for models of a narrow corpus and a small vocabulary.

Templates are filled with words that the training text has at least ``LEAST_COUNT`` times, all of
their forms, so that what is tested is grammar and not vocabulary. Each of two forms, such as "a"
and "an", is right in half of the pairs, so that always preferring the more frequent one is chance.
For the order of words there are no templates: two neighbours change places in sentences of the
validation text, in any language; a few of these sentences remain grammatical.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise
from typing import TypeVar

from bertexp import draws
from bertexp.data.cache import cached_json
from bertexp.data.corpora.corpus import CorpusStore
from bertexp.data.tokens.store import split_sentences
from bertexp.evaluation.grammar import GENERATED, KEY, Pair
from bertexp.evaluation.grammar.lexicon import Words, takes_an
from bertexp.objectives.base import BANK_SEED
from bertexp.validation import UserError

T = TypeVar("T")

VERSION = 1
LEAST_COUNT = 20
# A phenomenon with fewer different pairs is left out; of one with more, the first are kept.
LEAST_PAIRS, MOST_PAIRS = 50, 1000
# The characters that are read of a large corpus.
MOST_TRAINING, MOST_VALIDATION = 20_000_000, 4_000_000
# A plain sentence: 5 to 15 words without digits, and without signs but commas and its end.
_SENTENCE = re.compile(r"[^\W\d_]+(?:,? [^\W\d_]+){4,14}[.!?]?")
_WORD = re.compile(r"[^\W\d_]+")

BE = (("is", "are"), ("was", "were"), ("has been", "have been"))
DEMONSTRATIVES = (("this", "these"), ("that", "those"))
QUANTIFIERS = (("each", "every", "another"), ("many", "several", "two", "three", "few"))
MODALS = ("can", "could", "may", "must", "should", "will", "would")


class Draw:
    """Choices that depend on the phenomenon and the number of the pair only."""

    def __init__(self, phenomenon: str, number: int) -> None:
        self.number = number
        self._state = draws.states(f"pair {phenomenon}", BANK_SEED, 0, number)

    def __call__(self, options: Sequence[T]) -> T:
        self._state = draws.combine(self._state, 0)
        return options[int(draws.integers(self._state, len(options))[0])]


def generate_pairs(corpus: CorpusStore, language: str) -> list[Pair]:
    """Return the pairs of a corpus, or read them from the cache."""
    key = {"version": VERSION, "corpus": corpus.fingerprint, "language": language}

    def generated() -> list[dict[str, str]]:
        return [vars(pair) for pair in _generate(corpus, language)]

    found = [Pair(**each) for each in cached_json("minimal-pairs", key, generated)]
    if not found:
        raise UserError(
            f"{KEY}={GENERATED}: the corpus has too few words that occur {LEAST_COUNT} times; name "
            "a file of pairs, or leave it null."
        )
    return found


def _generate(corpus: CorpusStore, language: str) -> Iterator[Pair]:
    known = _frequent(corpus)
    words = Words.among(known)
    made = {"word_order": _swapped(corpus, language, known)}
    if language == "en":
        made |= {name: _filled(name, words) for name in TEMPLATES}
    for name, sentences in sorted(made.items()):
        kept = [*islice(sentences, MOST_PAIRS)]
        if len(kept) >= LEAST_PAIRS:
            yield from (Pair(good, bad, name, name) for good, bad in kept)


def _frequent(corpus: CorpusStore) -> frozenset[str]:
    counts = Counter(
        word
        for _, text in corpus.paragraphs("train", most=MOST_TRAINING)
        for word in _WORD.findall(text.lower())
    )
    return frozenset(word for word, count in counts.items() if count >= LEAST_COUNT)


def _filled(phenomenon: str, words: Words) -> Iterator[tuple[str, str]]:
    """Yield different pairs of a template, those of even and odd numbers in turn."""
    sides: tuple[dict[tuple[str, str], None], ...] = ({}, {})
    for number in range(2 * MOST_PAIRS):
        try:
            good, bad = TEMPLATES[phenomenon](words, Draw(phenomenon, number))
        except IndexError:  # there is nothing to choose from
            continue
        sides[number % 2][f"{good[0].upper()}{good[1:]}.", f"{bad[0].upper()}{bad[1:]}."] = None
    for both in zip(*sides, strict=False):
        yield from both


def _swapped(
    corpus: CorpusStore, language: str, known: frozenset[str]
) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for _, paragraph in corpus.paragraphs("validation", most=MOST_VALIDATION):
        for sentence in split_sentences(paragraph, "sentencex", language):
            good = sentence.strip()
            words = good.split(" ")
            is_plain = _SENTENCE.fullmatch(good) and known >= {*_WORD.findall(good.lower())}
            if not is_plain or good in seen:
                continue
            # Neither the first word, which may have a capital letter, nor one before a sign.
            pairs = [*pairwise(words)][1:]
            places = [
                at
                for at, (one, other) in enumerate(pairs, start=1)
                if one.lower() != other.lower() and (one + other).isalpha()
            ]
            if places:
                at = Draw("word_order", len(seen))(places)
                words[at], words[at + 1] = words[at + 1], words[at]
                yield good, " ".join(words)
                seen.add(good)


def _known(words: Words, forms: Sequence[T]) -> list[T]:
    """Return the forms, each a text or two, that consist of known words."""

    def parts(form: T) -> set[str]:
        return {*(" ".join(form) if isinstance(form, tuple) else str(form)).split()}

    return [form for form in forms if words.every >= parts(form)]


def _subject_verb_agreement(words: Words, draw: Draw) -> tuple[str, str]:
    side = draw.number % 2
    subject = draw(words.nouns)[side]
    if draw((True, False)):
        forms, rest = draw(_known(words, BE)), draw(words.adjectives)
    else:
        forms, rest = draw(words.verbs)[:2], f"the {draw(draw(words.nouns))}"
    good, bad = (f"the {subject} {form} {rest}" for form in (forms[side], forms[1 - side]))
    return good, bad


def _distractor_agreement(words: Words, draw: Draw) -> tuple[str, str]:
    side = draw.number % 2
    subject, other = draw(words.nouns)[side], draw(words.nouns)[1 - side]
    forms, rest = draw(_known(words, BE)), draw(words.adjectives)
    good, bad = (
        f"the {subject} of the {other} {form} {rest}" for form in (forms[side], forms[1 - side])
    )
    return good, bad


def _determiner_noun_agreement(words: Words, draw: Draw) -> tuple[str, str]:
    side = draw.number % 2
    determiners, noun = draw(_known(words, DEMONSTRATIVES)), draw(words.nouns)
    rest = f"{draw(_known(words, MODALS))} be {draw(words.verbs)[2]}"
    wrong = (determiners[1 - side], noun[side])
    if draw((True, False)):
        wrong = (determiners[side], noun[1 - side])
    return f"{determiners[side]} {noun[side]} {rest}", f"{' '.join(wrong)} {rest}"


def _quantifiers(words: Words, draw: Draw) -> tuple[str, str]:
    side = draw.number % 2
    quantifier, noun = draw(_known(words, QUANTIFIERS[side])), draw(words.nouns)
    rest = f"{draw(_known(words, MODALS))} be {draw(words.verbs)[2]}"
    return f"{quantifier} {noun[side]} {rest}", f"{quantifier} {noun[1 - side]} {rest}"


def _articles(words: Words, draw: Draw) -> tuple[str, str]:
    takes = bool(draw.number % 2)
    singular = [noun for noun, _ in words.nouns]
    following = draw([one for one in (*singular, *words.adjectives) if takes_an(one) == takes])
    if following in words.adjectives:
        following += f" {draw(singular)}"
    rest = f"{draw(_known(words, MODALS))} be {draw(words.verbs)[2]}"
    good, bad = (f"{article} {following} {rest}" for article in (("a", "an"), ("an", "a"))[takes])
    return good, bad


def _verb_forms(words: Words, draw: Draw) -> tuple[str, str]:
    noun, modal = draw(draw(words.nouns)), draw(_known(words, MODALS))
    third, base, participle = draw(words.verbs)
    if draw.number % 2:
        good, bad = (f"the {noun} {modal} be {form}" for form in (participle, base))
    else:
        other = draw(draw(words.nouns))
        good, bad = (f"the {noun} {modal} {form} the {other}" for form in (base, third))
    return good, bad


TEMPLATES: dict[str, Callable[[Words, Draw], tuple[str, str]]] = {
    "articles": _articles,
    "determiner_noun_agreement": _determiner_noun_agreement,
    "distractor_agreement": _distractor_agreement,
    "quantifiers": _quantifiers,
    "subject_verb_agreement": _subject_verb_agreement,
    "verb_forms": _verb_forms,
}
