"""Log-likelihoods of single tokens under a masked model, each from its own masked sequence.

The pieces of a word are scored from left to right, with those after them masked (``place``). If
only one piece is masked at a time, the pieces of a word reveal each other, and a long rare word
scores as if it were a common one. So when a piece is scored, it and the later pieces of its word
are masked, and a word's score is its probability by the chain rule (Kauf and Ivanova 2023, "A
better way to do masked language model scoring", whose score of a text is the sum, "PLL-word-l2r").
Words are found in the text, so that they are the same for every tokenizer.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from bertexp.arrays import ranges
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.families.inputs import Inputs
from bertexp.objectives.batch import attention_mask, pad
from bertexp.objectives.learner import Learner

# Tokens per forward pass, including padding, on a CPU and on a GPU.
BATCH_TOKENS, GPU_BATCH_TOKENS = 8192, 65536


class Encoded(NamedTuple):
    """A text, its ids, and for each of its tokens ``ends_of_words``."""

    text: str
    ids: list[int]
    ends_N: np.ndarray


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Encoded]:
    encodings = tokenizer.backend.encode_batch([*texts], add_special_tokens=False)
    return [
        Encoded(text, encoding.ids, ends_of_words(text, encoding.offsets))
        for text, encoding in zip(texts, encodings, strict=True)
    ]


@dataclass(frozen=True)
class Places:
    """The tokens to score.

    Attributes:
        rows: sequences with their special tokens.
        row_N, column_N: the sequence of each token, and its position there.
        end_N: each token is masked together with those that follow it before this position.
        text_N: the text of each token, of which ``rows`` may be parts.
    """

    rows: Sequence[np.ndarray]
    row_N: np.ndarray
    column_N: np.ndarray
    end_N: np.ndarray
    text_N: np.ndarray

    @cached_property
    def ids_N(self) -> np.ndarray:
        places = zip(self.row_N, self.column_N, strict=True)
        return np.array([self.rows[row][column] for row, column in places], dtype=np.int64)


def place(tokenizer: Tokenizer, texts: Sequence[Encoded], max_length: int) -> Places:
    """Return the position at which each token of the texts is scored, and what is masked with it.

    A text with more tokens than a model can read is scored in windows: each token in the one with
    as much text before it as after it.
    """
    room = max_length - tokenizer.special_in_sequence
    rows: list[np.ndarray] = []
    row, column, end, text_of = [], [], [], []
    for number, text in enumerate(texts):
        size = len(text.ids)
        place_N = np.arange(size)
        start_N = np.clip(place_N - room // 2, 0, max(size - room, 0))
        starts, window_N = np.unique(start_N, return_inverse=True)
        until_N = np.minimum(text.ends_N, start_N + room)
        row.append(len(rows) + window_N)
        column.append(1 + place_N - start_N)
        end.append(1 + until_N - start_N)
        text_of.append(np.full(size, number))
        rows += [tokenizer.sequence(text.ids[first : first + room]) for first in starts]
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


@torch.no_grad()
def log_likelihoods(
    learner: Learner, tokenizer: Tokenizer, places: Places, device: torch.device
) -> np.ndarray:
    """Return the log-probability of each token in nats, ``float64``.

    A model with causal attention reads a sequence once and without masks, for all of its tokens.

    Args:
        learner: a model with a head for masked tokens; left in evaluation mode.
    """
    learner.eval()
    found_N = np.empty(len(places.row_N))
    size = BATCH_TOKENS if device.type == "cpu" else GPU_BATCH_TOKENS
    for chosen, labels_U, inputs in _batches(tokenizer, places, size, learner.is_causal):
        logits_UV = learner.masked_logits(inputs.to(device)).float()
        losses_U = functional.cross_entropy(logits_UV, labels_U.to(device), reduction="none")
        found_N[chosen] = -losses_U.cpu().numpy()
    return found_N


def _batches(
    tokenizer: Tokenizer, places: Places, batch_tokens: int, is_causal: bool
) -> Iterator[tuple[np.ndarray, torch.Tensor, Inputs]]:
    """Yield batches: the tokens' indices into ``places``, their ids and the sequences."""
    if not len(places.row_N):
        return
    ids_TL, lengths_T = pad([*places.rows], tokenizer.pad_id)
    # Longest first, so that a batch's first sequence determines how many fit.
    order_N = np.argsort(-lengths_T[places.row_N], kind="stable")
    row_N = places.row_N[order_N]
    # The first token of each sequence.
    first_S = np.flatnonzero(np.diff(row_N, prepend=-1)) if is_causal else np.arange(len(row_N))
    start = 0
    while start < len(first_S):
        longest = lengths_T[row_N[first_S[start]]]
        # As many scored tokens as with masks, or their logits would take much memory.
        count = batch_tokens // longest // (longest if is_causal else 1)
        stop = start + max(1, count)
        end = first_S[stop] if stop < len(first_S) else len(row_N)
        chosen = order_N[first_S[start] : end]
        yield (
            chosen,
            torch.from_numpy(places.ids_N[chosen]),
            _inputs(
                ids_TL[row_N[first_S[start:stop]], :longest],
                lengths_T[row_N[first_S[start:stop]]],
                np.diff(first_S[start:stop], append=end),
                places.column_N[chosen],
                places.end_N[chosen],
                None if is_causal else tokenizer.mask_id,
            ),
        )
        start = stop


def _inputs(
    ids_BL: np.ndarray,
    lengths_B: np.ndarray,
    counts_B: np.ndarray,
    column_U: np.ndarray,
    end_U: np.ndarray,
    mask_id: int | None,
) -> Inputs:
    """Return sequences of which each has ``counts_B`` tokens to score, one of them if masked."""
    rows_U = np.repeat(np.arange(len(ids_BL)), counts_B)
    rank_U = ranges(counts_B)
    queries_BP = np.zeros((len(ids_BL), counts_B.max()), np.int64)
    queries_BP[rows_U, rank_U] = column_U
    if mask_id is not None:
        column_L = np.arange(ids_BL.shape[1])
        ids_BL[(column_L >= column_U[:, None]) & (column_L < end_U[:, None])] = mask_id
    return Inputs(
        input_ids_BL=torch.from_numpy(ids_BL),
        # The last layer and the head compute scored positions only.
        queries_BP=torch.from_numpy(queries_BP),
        slots_U=torch.from_numpy(rows_U * queries_BP.shape[1] + rank_U),
        attention_mask_BL=attention_mask(ids_BL, lengths_B),
    )
