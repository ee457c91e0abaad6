"""The characters of a text: how often each occurs, and which ones a vocabulary needs."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from tokenizers import normalizers

from bertexp.data.corpora.shard import in_chunks

TEXTS_AT_ONCE = 1024
# Up to this share of a corpus's letters, another script counts as foreign words.
FOREIGN = 0.01
# The last code point of Latin, Greek and Cyrillic and of their accents.
_LAST_WESTERN = 0x052F
# Minimal size of an alphabet, or a quarter of the vocabulary if that is less.
COMMONEST = 1000
# The share of a text that an alphabet covers, unless that takes over half of the vocabulary.
COVERED = 0.9995


def count_characters(texts: Iterable[str]) -> Counter[str]:
    written: Counter[str] = Counter()
    for text in texts:
        written.update(text)
    return written


def in_batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield texts in the form that the trainers of ``tokenizers`` read fastest."""
    return in_chunks(texts, lambda _: 1, TEXTS_AT_ONCE)


def normalized(written: Counter[str], normalizer: normalizers.Normalizer) -> Counter[str]:
    """Return the counts of characters after normalisation, the most common first."""
    counts: Counter[str] = Counter()
    for character, count in written.items():
        for each in normalizer.normalize_str(character):
            counts[each] += count
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return Counter({character: count for character, count in ranked if not character.isspace()})


def alphabet_size(counts: Counter[str], pieces: Mapping[str, list[str]], vocab_size: int) -> int:
    """Return how many of the most common characters make the alphabet; others become [UNK].

    Args:
        counts: the most common first.
        pieces: the vocabulary entries that each character needs.
    """
    covered = places = size = 0
    for character, count in counts.items():
        places += len(pieces[character])
        is_enough = covered >= COVERED * counts.total() or places > vocab_size // 2
        if is_enough and size >= min(COMMONEST, vocab_size // 4):
            break
        covered += count
        size += 1
    return size


def needs_accents(counts: Mapping[str, int]) -> bool:
    """Whether stripping accents, as BERT does when it folds case, would break a script's letters.

    Latin, Greek and Cyrillic accents can be dropped. In other scripts the same rule splits Hangul
    into its parts and drops Japanese voicing marks and Thai and Indic vowels. A few foreign words
    do not change the result.
    """
    letters = {character: count for character, count in counts.items() if character.isalpha()}
    marks = (count for mark, count in counts.items() if _is_mark(mark))
    apart = (count for letter, count in letters.items() if _comes_apart(letter))
    total = sum(letters.values())
    return sum(marks) + sum(apart) > FOREIGN * total


def _is_mark(character: str) -> bool:
    return unicodedata.category(character) == "Mn" and ord(character) > _LAST_WESTERN


def _comes_apart(letter: str) -> bool:
    parts = unicodedata.normalize("NFD", letter)
    return parts != letter and ord(parts[0]) > _LAST_WESTERN
