"""Bits per byte of text: how well masked models with different vocabularies predict the same text.

A loss is a mean over tokens, so with other tokens it is a different quantity. What can be compared
is the surprisal of the same text, per byte of its UTF-8 (Gao et al. 2020, "The Pile", for
left-to-right models). Here the surprisal of a text is that of each word given all the others, by
the chain rule over the word's pieces, see ``scoring``. If only one piece were masked at a
time, the pieces of a word would reveal each other, and the tokenizer with the smallest pieces would
have the best score.

The measure does not depend on the tokenizer. Texts are chosen and cut by characters, and words are
runs of letters and digits, or of signs, however they are split into pieces. The masks reveal how
many pieces a word has, so that number is charged too, by its frequency: only then do the
probabilities of all words sum to 1. Whatever the tokens do not determine (case, spaces, unknown
words) is also charged, see ``spelling``. Words are predicted from both sides, so this is not a
compressed size and cannot be compared with that of a left-to-right model. A model with causal
attention (``task=clm``) is measured alike, but uses only the text before a word: for that reason
alone its figure is higher than that of a model that reads both sides.

``eval/word_perplexity`` is from the same scores, by words and without charges. Words with an
unknown token do not count, so it is for runs of one tokenizer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from bertexp import draws, metrics
from bertexp.data.cache import fingerprint
from bertexp.data.corpora.corpus import CorpusStore
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.evaluation import EVALUATORS
from bertexp.evaluation.evaluator import Evaluator, Source
from bertexp.evaluation.scoring import Encoded, count_words, encode, log_likelihoods, place
from bertexp.evaluation.sizing import CHARACTERS_OF_A_TOKEN, choose_in_proportion
from bertexp.evaluation.spelling import spelling_bits
from bertexp.metrics import BITS_PER_BYTE
from bertexp.objectives.base import BANK_SEED, Reference
from bertexp.objectives.learner import Learner
from bertexp.objectives.mlm import perplexity

WORD_PERPLEXITY = "eval/word_perplexity"
SPELLING, PIECES = f"{BITS_PER_BYTE}@spelling", f"{BITS_PER_BYTE}@pieces"
VERSION = 3
# Most bytes of a text; a longer one is cut before the first word that exceeds them.
MOST_BYTES = 384
# Texts are chosen from about this many characters at the beginning of a large validation split.
READ = 4_000_000
metrics.register(
    WORD_PERPLEXITY,
    replace(metrics.PERPLEXITY, meaning="each word predicted from all the others"),
)


@EVALUATORS.register("bits_per_byte", reads=("evaluation.pseudo_perplexity",))
class BitsPerByte(Evaluator):
    """``eval/bits_per_byte`` and ``eval/word_perplexity`` of some validation paragraphs."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.texts = choose_in_proportion(
            source,
            # More than for pseudo-perplexity, as tokenizers and strategies are compared by it.
            share=0.02,
            choose=lambda count: choose_texts(source.corpus, count),
            # Whatever the tokenizer: with all of them the texts are the same.
            length=lambda text: len(text) / CHARACTERS_OF_A_TOKEN,
        )
        self.bytes = sum(len(text.encode()) for text in self.texts)
        spelling_T = spelling_bits(source.corpus, source.tokenizer, self.texts)
        self.spelling = float(spelling_T.sum()) / max(self.bytes, 1)
        encoded = encode(source.tokenizer, self.texts)
        self.pieces = piece_bits(encoded) / max(self.bytes, 1)
        self.places = place(source.tokenizer, encoded, source.max_length)
        self.is_known_N, self.words = known_words(source.tokenizer, encoded)
        if self.texts:
            found = fingerprint([VERSION, *self.texts])
            ids_N = self.places.ids_N
            bits = surprisal(ids_N[~source.tokenizer.is_special_V[ids_N]])
            self.reference = Reference(
                yardsticks={BITS_PER_BYTE: bits / self.bytes + self.spelling},
                fingerprints={BITS_PER_BYTE: found, WORD_PERPLEXITY: found},
            )

    @property
    def scored(self) -> str:
        return f"{len(self.texts)} for {BITS_PER_BYTE}" if self.texts else ""

    def measure(self, learner: Learner, device: torch.device) -> Iterator[tuple[str, float]]:
        if not self.texts:
            return
        tokenizer = self.source.tokenizer
        found_N = log_likelihoods(learner, tokenizer, self.places, device)
        # Tokens that no model learns to predict are charged as spelling.
        nats = -float(found_N[~tokenizer.is_special_V[self.places.ids_N]].sum())
        yield BITS_PER_BYTE, nats / math.log(2) / self.bytes + self.spelling + self.pieces
        if self.words:
            nats = -float(found_N[self.is_known_N].sum())
            yield WORD_PERPLEXITY, perplexity(nats / self.words)
        yield SPELLING, self.spelling
        yield PIECES, self.pieces

    def summary(self) -> dict[str, Any]:
        return {"bits_per_byte": {"texts": len(self.texts)}} if self.texts else {}


def choose_texts(corpus: CorpusStore, count: int) -> list[str]:
    """Return ``count`` paragraphs, always the same; a smaller choice is part of a larger one."""
    if not count:
        return []
    texts = [text for _, text in corpus.paragraphs("validation", most=READ)]
    order = draws.permutation("bits-per-byte", BANK_SEED, 0, len(texts))
    return [_cut(texts[index]) for index in order[:count]]


def _cut(text: str) -> str:
    whole = text.encode()
    if len(whole) <= MOST_BYTES:
        return text
    cut = whole[:MOST_BYTES].decode(errors="ignore")
    # Text without spaces is cut between characters.
    return cut.rsplit(maxsplit=1)[0] if " " in cut else cut


def known_words(tokenizer: Tokenizer, texts: Sequence[Encoded]) -> tuple[np.ndarray, int]:
    """Return which tokens are of words without an unknown token, and how many such words are."""
    known, count = [np.empty(0, bool)], 0
    for text, ids, ends_N in texts:
        unknown = np.unique(ends_N[tokenizer.is_special_V[ids]])
        known.append(~np.isin(ends_N, unknown))
        count += count_words(text) - len(unknown)
    return np.concatenate(known), count


def piece_bits(texts: Sequence[Encoded]) -> float:
    """Return the bits needed to encode the number of pieces of each word."""
    sizes = [np.unique(text.ends_N, return_counts=True)[1] for text in texts]
    return surprisal(np.concatenate([*sizes, np.empty(0, np.int64)]))


def surprisal(values: np.ndarray) -> float:
    """Return the total bits of the values under their own empirical distribution."""
    counts = np.unique(values, return_counts=True)[1]
    return -float(counts @ np.log2(counts / max(counts.sum(), 1)))
