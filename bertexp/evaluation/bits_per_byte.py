"""Bits per byte of text: how well masked models of different vocabularies predict the same text.

A loss is a mean over tokens, and with other tokens it is another quantity. What can be compared is
the surprisal of the same text, per byte of its UTF-8 (Gao et al. 2020, "The Pile", for models that
read from left to right). Here a text's surprisal is that of each of its words given all the others,
by the chain rule over the word's pieces: while one is scored, it and the later pieces of its word
are masked (Kauf and Ivanova 2023, "A better way to do masked language model scoring"). With one
piece masked at a time the pieces of a word give each other away, and the tokenizer that cuts finest
has the best score.

It is the same for every tokenizer. The texts are chosen and cut by characters, and words are runs
of letters and digits, or of signs, whatever pieces they are cut into. How many pieces a word has,
which its masks give away, is charged by the frequency of such numbers: only so the probabilities of
all words add up to 1. What the tokens do not tell (case, spaces, unknown words) is charged too, see
``spelling``. Words are predicted from both sides, so this is no compressed size, and not to be
compared with a left-to-right model's.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from bertexp import draws
from bertexp.data.cache import fingerprint
from bertexp.data.corpora.corpus import CorpusStore
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.evaluation import EVALUATORS
from bertexp.evaluation.evaluator import Evaluator, Source
from bertexp.evaluation.scoring import Places, log_likelihoods
from bertexp.evaluation.spelling import spelling_bits
from bertexp.families.base import MASKED
from bertexp.metrics import BITS_PER_BYTE
from bertexp.objectives.base import BANK_SEED
from bertexp.objectives.learner import Learner

SPELLING, PIECES = f"{BITS_PER_BYTE}@spelling", f"{BITS_PER_BYTE}@pieces"
VERSION = 3
# Bytes of a text: longer ones are cut before the word that goes beyond.
MOST_BYTES = 384
# Characters of a large validation split that texts are chosen from.
READ = 4_000_000


@EVALUATORS.register("bits_per_byte", reads=("evaluation.pseudo_perplexity",))
class BitsPerByte(Evaluator):
    """Of some paragraphs of the validation text: ``eval/bits_per_byte``."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        # Other models have no head for it.
        count = source.config.pseudo_perplexity if MASKED in source.task.heads else None
        self.texts = choose_texts(source.corpus, count or 0)
        self.bytes = sum(len(text.encode()) for text in self.texts)
        spelling_T = spelling_bits(source.corpus, source.tokenizer, self.texts)
        self.spelling = float(spelling_T.sum()) / max(self.bytes, 1)
        self.pieces = piece_bits(source.tokenizer, self.texts) / max(self.bytes, 1)
        self.places = place(source.tokenizer, self.texts, source.max_length)

    def measure(self, learner: Learner, device: torch.device) -> Iterator[tuple[str, float]]:
        if not self.texts:
            return
        tokenizer = self.source.tokenizer
        found_N = log_likelihoods(learner.family, tokenizer, self.places, device)
        # Those that no model learns to predict are in the spelling.
        nats = -float(found_N[~tokenizer.is_special_V[self.places.ids_N]].sum())
        yield BITS_PER_BYTE, nats / math.log(2) / self.bytes + self.spelling + self.pieces
        yield SPELLING, self.spelling
        yield PIECES, self.pieces

    def fingerprints(self) -> dict[str, str]:
        return {BITS_PER_BYTE: fingerprint([VERSION, *self.texts])} if self.texts else {}

    def yardsticks(self) -> dict[str, float]:
        if not self.texts:
            return {}
        ids_N = self.places.ids_N
        ids_N = ids_N[~self.source.tokenizer.is_special_V[ids_N]]
        return {BITS_PER_BYTE: surprisal(ids_N) / self.bytes + self.spelling}


def choose_texts(corpus: CorpusStore, count: int) -> list[str]:
    """Return ``count`` paragraphs, always the same; fewer are a subset of more."""
    texts: list[str] = []
    left = READ if count else 0
    for document in corpus.documents("validation"):
        if left <= 0:
            break
        texts += document.paragraphs
        left -= sum(map(len, document.paragraphs))
    state = draws.combine(draws.key("bits-per-byte", BANK_SEED, 0), np.arange(len(texts)))
    return [_cut(texts[index]) for index in np.argsort(state)[:count]]


def _cut(text: str) -> str:
    whole = text.encode()
    if len(whole) <= MOST_BYTES:
        return text
    cut = whole[:MOST_BYTES].decode(errors="ignore")
    # A script without spaces is cut between characters.
    return cut.rsplit(maxsplit=1)[0] if " " in cut else cut


def place(tokenizer: Tokenizer, texts: Sequence[str], max_length: int) -> Places:
    """Return where each token of the texts is scored, and what is masked with it.

    A text that has more tokens than a model can read is scored in windows, each token in the one
    that has as much of the text before it as after it.
    """
    room = max_length - tokenizer.special_in_sequence
    rows: list[np.ndarray] = []
    row, column, end = [], [], []
    encodings = tokenizer.backend.encode_batch([*texts], add_special_tokens=False)
    for text, encoding in zip(texts, encodings, strict=True):
        size = len(encoding.ids)
        number_N = np.arange(size)
        start_N = np.clip(number_N - room // 2, 0, max(size - room, 0))
        starts, window_N = np.unique(start_N, return_inverse=True)
        until_N = np.minimum(ends_of_words(text, encoding.offsets), start_N + room)
        row.append(len(rows) + window_N)
        column.append(1 + number_N - start_N)
        end.append(1 + until_N - start_N)
        rows += [tokenizer.sequence(encoding.ids[first : first + room]) for first in starts]
    return Places(
        rows, *(np.concatenate(each or [np.empty(0, int)]) for each in (row, column, end))
    )


def piece_bits(tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    """Return the bits that the numbers of pieces of all words take."""
    encodings = tokenizer.backend.encode_batch([*texts], add_special_tokens=False)
    ends = [ends_of_words(t, e.offsets) for t, e in zip(texts, encodings, strict=True)]
    sizes = [np.unique(each, return_counts=True)[1] for each in ends]
    return surprisal(np.concatenate([*sizes, np.empty(0, np.int64)]))


def surprisal(values: np.ndarray) -> float:
    """Return the bits of values that are drawn by their own frequencies."""
    counts = np.unique(values, return_counts=True)[1]
    return -float(counts @ np.log2(counts / max(counts.sum(), 1)))


def ends_of_words(text: str, offsets: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return for each token the number of the first one after the word that it ends in.

    A word is a run of letters, marks and digits, or a run of other characters, and has the spaces
    before it; so a sentence of a script without spaces is one. A token may be in several.
    """
    word_C = _words(text)
    first, last = [], []
    for start, end in offsets:
        first.append(word_C[min(start, len(text) - 1)])
        # The space after a word is the next one's.
        last.append(word_C[max(start, start + len(text[start:end].rstrip()) - 1)])
    first_N, last_N = np.maximum.accumulate(np.array(first, np.int64)), np.array(last, np.int64)
    ends_N = np.searchsorted(first_N, last_N, side="right")
    return np.maximum(ends_N, np.arange(len(offsets)) + 1)


def _words(text: str) -> list[int]:
    """Return the number of each character's word."""
    found, number, before = [0] * len(text), 0, ""
    for place, character in enumerate(text):
        kind = _kind(character)
        number += kind != before and before not in ("", " ")
        found[place], before = number, kind
    return found


def _kind(character: str) -> str:
    if character.isspace():
        return " "
    return "word" if unicodedata.category(character)[0] in "LMN" else "sign"
