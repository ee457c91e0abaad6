"""The pieces of a word are scored from left to right, with those after them masked.

If only one piece is masked at a time, the pieces of a word reveal each other, and a long rare word
scores as if it were a common one. So when a piece is scored, it and the later pieces of its word
are masked, and a word's score is its probability by the chain rule (Kauf and Ivanova 2023, "A
better way to do masked language model scoring", whose score of a text is the sum, "PLL-word-l2r").
Words are found in the text, so that they are the same for every tokenizer.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np

from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.evaluation.scoring import Places


def place(tokenizer: Tokenizer, texts: Sequence[str], max_length: int) -> Places:
    """Return the position at which each token of the texts is scored, and what is masked with it.

    A text with more tokens than a model can read is scored in windows: each token in the one with
    as much text before it as after it.
    """
    room = max_length - tokenizer.special_in_sequence
    rows: list[np.ndarray] = []
    row, column, end, text_of = [], [], [], []
    encodings = tokenizer.backend.encode_batch([*texts], add_special_tokens=False)
    for number, (text, encoding) in enumerate(zip(texts, encodings, strict=True)):
        size = len(encoding.ids)
        place_N = np.arange(size)
        start_N = np.clip(place_N - room // 2, 0, max(size - room, 0))
        starts, window_N = np.unique(start_N, return_inverse=True)
        until_N = np.minimum(ends_of_words(text, encoding.offsets), start_N + room)
        row.append(len(rows) + window_N)
        column.append(1 + place_N - start_N)
        end.append(1 + until_N - start_N)
        text_of.append(np.full(size, number))
        rows += [tokenizer.sequence(encoding.ids[first : first + room]) for first in starts]
    parts = (row, column, end, text_of)
    return Places(rows, *(np.concatenate(each or [np.empty(0, int)]) for each in parts))


def ends_of_words(text: str, offsets: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return, for each token, the index of the first token after the word that it ends in.

    A word is a run of letters, marks and digits, or a run of other characters, with the spaces
    before it; in a script without spaces that is a whole sentence. A token may span several words.
    """
    word_C = _words(text)
    first, last = [], []
    for start, end in offsets:
        first.append(word_C[min(start, len(text) - 1)])
        # A space belongs to the word after it.
        last.append(word_C[max(start, start + len(text[start:end].rstrip()) - 1)])
    first_N, last_N = np.maximum.accumulate(np.array(first, np.int64)), np.array(last, np.int64)
    ends_N = np.searchsorted(first_N, last_N, side="right")
    return np.maximum(ends_N, np.arange(len(offsets)) + 1)


def count_words(text: str) -> int:
    return 1 + _words(text)[-1] if text else 0


def _words(text: str) -> list[int]:
    """Return the index of each character's word."""
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
