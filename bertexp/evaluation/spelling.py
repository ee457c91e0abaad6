"""Charging for what tokens do not determine of their text: case, spaces, unknown words.

A tokenizer that folds case has less to predict than one that keeps it. To make the two comparable,
each is charged the bits needed to write the original text, given its tokens.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from bertexp import draws
from bertexp.data.cache import cached_json, fingerprint
from bertexp.data.corpora.corpus import CorpusStore
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.objectives.base import BANK_SEED

VERSION = 2
# Spellings are counted in a sample of COUNTED characters of the first READ of the training text.
COUNTED, READ = 1_000_000, 20_000_000
BITS_OF_A_BYTE = 8

# A token and its spelling: the text from the end of the previous token to its own end.
Token = tuple[int, str]
Counts = dict[tuple[int, ...], Counter[str]]


def spelling_bits(corpus: CorpusStore, tokenizer: Tokenizer, texts: Sequence[str]) -> np.ndarray:
    """Return the bits that each text takes beyond its tokens, or read them from the cache.

    They are 0 if decoding the tokens restores every text. Otherwise each text is charged the
    surprisal of whether decoding restores it. If it does not, add that of each token's spelling,
    given it and the token before: counts in training text with Witten-Bell smoothing (1991), which
    backs off to eight bits for each byte and for the end of the spelling. A token that no model
    learns to predict (the unknown token) is always charged those eight bits.
    """
    key = {
        "version": VERSION,
        "corpus": corpus.fingerprint,
        "tokenizer": tokenizer.fingerprint,
        "texts": fingerprint([*texts]),
    }
    found = cached_json("spelling", key, lambda: _bits(corpus, tokenizer, texts))
    return np.array(found, np.float64)


def spellings(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[list[Token]]:
    """Yield the tokens of each text with their spellings, which include the space before.

    If a character has several tokens, it belongs to the first.
    """
    encodings = tokenizer.backend.encode_batch([*texts], add_special_tokens=False)
    for text, encoding in zip(texts, encodings, strict=True):
        end, found = 0, []
        for index, (_, after) in zip(encoding.ids, encoding.offsets, strict=True):
            start, end = end, max(end, after)
            found.append((index, text[start:end]))
        yield found


def _bits(corpus: CorpusStore, tokenizer: Tokenizer, texts: Sequence[str]) -> list[float]:
    every = [*spellings(tokenizer, texts)]
    restored = [
        _is_restored(tokenizer, each, text) for text, each in zip(texts, every, strict=True)
    ]
    counts = {} if all(restored) else _count(spellings(tokenizer, _sample(corpus)))
    found = []
    for tokens, is_restored in zip(every, restored, strict=True):
        note = math.log2(len(restored) / restored.count(is_restored))
        found.append(note + (0 if is_restored else sum(_surprisals(tokens, counts, tokenizer))))
    return found


def _is_restored(tokenizer: Tokenizer, tokens: Sequence[Token], text: str) -> bool:
    ids = [index for index, _ in tokens]
    # Some tokenizers put a space before the first word.
    return bool(tokenizer.backend.decode(ids, skip_special_tokens=False).strip() == text.strip())


def _sample(corpus: CorpusStore) -> list[str]:
    texts = [text for _, text in corpus.paragraphs("train", most=READ)]
    share = COUNTED / max(sum(map(len, texts)), 1)
    order = draws.permutation("spelling", BANK_SEED, 0, len(texts))
    return [texts[index] for index in islice(order, math.ceil(share * len(texts)))]


def _count(sample: Iterator[list[Token]]) -> Counts:
    counts: Counts = defaultdict(Counter)
    for tokens in sample:
        for context, spelling in _contexts(tokens):
            counts[context][spelling] += 1
            counts[context[1:]][spelling] += 1
    return counts


def _contexts(tokens: Sequence[Token]) -> Iterator[tuple[tuple[int, int], str]]:
    before = -1
    for index, spelling in tokens:
        yield (before, index), spelling
        before = index


def _surprisals(tokens: Sequence[Token], counts: Counts, tokenizer: Tokenizer) -> Iterator[float]:
    for context, spelling in _contexts(tokens):
        bits = BITS_OF_A_BYTE * (len(spelling.encode()) + 1)
        known = () if tokenizer.is_special_V[context[-1]] else (context[1:], context)
        share = 2.0**-bits
        for each in known:
            if found := counts.get(each):
                share = (found[spelling] + len(found) * share) / (found.total() + len(found))
        # The probability of a long word may underflow.
        yield -math.log2(share) if share else bits
