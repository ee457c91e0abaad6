"""The characters of a text: how often each occurs, and which of them a vocabulary is to have."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from tokenizers import normalizers

# More than this share of a corpus's letters make a script its own, and not foreign words.
FOREIGN = 0.01
# The last character of Latin, Greek and Cyrillic and of the accents that they take.
_LAST_WESTERN = 0x052F
# How many characters an alphabet has at least, if a quarter of the vocabulary is as many.
COMMONEST = 1000
# The share of a text that an alphabet is to cover, if it takes half of the vocabulary at most.
COVERED = 0.9995


def count_characters(texts: Iterable[str]) -> Counter[str]:
    written: Counter[str] = Counter()
    for text in texts:
        written.update(text)
    return written


def in_chunks(texts: Iterable[str], size: int = 1024) -> Iterator[list[str]]:
    chunk: list[str] = []
    for text in texts:
        chunk.append(text)
        if len(chunk) == size:
            yield chunk
            chunk = []
    yield chunk


def normalized(written: Counter[str], normalizer: normalizers.Normalizer) -> Counter[str]:
    """Return the counts of characters as they are after normalisation, the commonest first."""
    counts: Counter[str] = Counter()
    for character, count in written.items():
        for each in normalizer.normalize_str(character):
            counts[each] += count
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return Counter({character: count for character, count in ranked if not character.isspace()})


def alphabet_size(counts: Counter[str], pieces: Mapping[str, list[str]], vocab_size: int) -> int:
    """Return how many of the commonest characters are in the alphabet; others become [UNK].

    Args:
        counts: the commonest first.
        pieces: the tokens that each character takes.
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
    """Whether stripping accents, as BERT does with case, would take a script's letters apart.

    What Latin, Greek and Cyrillic have on their letters can be left out. Elsewhere the same rule
    splits Hangul into its parts and drops Japanese voicing marks, and Thai and Indic vowels. A few
    foreign words change nothing.
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
