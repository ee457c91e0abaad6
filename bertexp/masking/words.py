"""The words of token sequences, and hashes of runs of words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bertexp import draws
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.masking import STRATEGIES
from bertexp.masking.strategies import Context, Strategy
from bertexp.validation import UserError

_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2**64
_INVERSE = pow(_BASE, -1, 2**64)


@dataclass(frozen=True)
class Words:
    """The words of concatenated sequences, as places in the array of their tokens.

    Special tokens and the ends of sequences divide words into stretches.

    Attributes:
        starts_W: each word's first token.
        ends_W: the place after its last one.
        limits_W: the number of the first word after the word's stretch.
    """

    starts_W: np.ndarray
    ends_W: np.ndarray
    limits_W: np.ndarray

    @property
    def first_W(self) -> np.ndarray:
        return np.append(True, self.limits_W[1:] != self.limits_W[:-1])[: len(self.limits_W)]


def word_begins(
    ids_N: np.ndarray, maskable_N: np.ndarray, opens_N: np.ndarray, tokenizer: Tokenizer
) -> np.ndarray:
    """Return where words begin; ``opens_N`` is True at the first token of a sequence.

    A piece whose word began before the sequence, or before a special token, begins one.
    """
    cut_off_N = opens_N.copy()
    cut_off_N[1:] |= ~maskable_N[:-1]
    return maskable_N & tokenizer.begins_words(ids_N, cut_off_N)


def find_words(
    ids_N: np.ndarray, maskable_N: np.ndarray, opens_N: np.ndarray, tokenizer: Tokenizer
) -> Words:
    begins_N = word_begins(ids_N, maskable_N, opens_N, tokenizer)
    starts_W = np.flatnonzero(begins_N)
    number_N = np.cumsum(begins_N) - 1
    ends_W = starts_W + np.bincount(number_N[maskable_N], minlength=len(starts_W))
    # A stretch continues if a word begins right after the one before, in the same sequence.
    opens_W = opens_N[starts_W]
    opens_W[1:] |= starts_W[1:] != ends_W[:-1]
    opens_W[:1] = True
    firsts = np.flatnonzero(opens_W)
    sizes = np.diff(np.append(firsts, len(starts_W)))
    return Words(starts_W, ends_W, np.repeat(firsts + sizes, sizes))


def batch_words(ids_BL: np.ndarray, maskable_BL: np.ndarray, tokenizer: Tokenizer) -> Words:
    """Return the words of a batch, as places in the flattened one."""
    opens_BL = np.zeros(ids_BL.shape, dtype=bool)
    opens_BL[:, 0] = True
    return find_words(ids_BL.ravel(), maskable_BL.ravel(), opens_BL.ravel(), tokenizer)


class RunHashes:
    """Hashes of runs of tokens, equal for equal runs anywhere, each in O(1).

    A hash is a polynomial in an odd base modulo 2**64 (Karp and Rabin 1987), whose coefficients are
    mixed ids: the difference of two prefix sums, divided by a power of the base.
    """

    def __init__(self, ids_N: np.ndarray) -> None:
        powers_N = np.full(len(ids_N), _BASE, dtype=np.uint64)
        np.multiply.accumulate(powers_N, out=powers_N)
        terms_N = draws.mix(ids_N.astype(np.uint64) + np.uint64(1)) * powers_N
        self._sums = np.append(np.uint64(0), np.cumsum(terms_N, dtype=np.uint64))
        self._inverses = np.full(len(ids_N) + 1, _INVERSE, dtype=np.uint64)
        self._inverses[0] = 1
        np.multiply.accumulate(self._inverses, out=self._inverses)

    def of(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Return the hash (``uint64``) of each run from ``starts`` to ``ends``, ends excluded."""
        return draws.mix((self._sums[ends] - self._sums[starts]) * self._inverses[starts])


class WordStrategy(Strategy):
    """A strategy whose units consist of whole words."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        if not context.tokenizer.knows_words:
            raise UserError(
                f"masking.strategy={context.config.strategy}: the tokenizer has no pieces that "
                "continue a word, so it does not say where words begin; choose "
                "masking.strategy=token or another tokenizer."
            )

    def words(self, ids_BL: np.ndarray, maskable_BL: np.ndarray) -> Words:
        return batch_words(ids_BL, maskable_BL, self.context.tokenizer)


@STRATEGIES.register("whole_word")
class WholeWordStrategy(WordStrategy):
    """All pieces of a word or none of them.

    BERT's authors added it to their code in May 2019 (google-research/bert); Cui et al. 2021,
    "Pre-training with whole word masking for Chinese BERT". They shuffle the words and take them
    until a budget is spent; for how they are drawn here see ``strategies``.
    """

    def begins(
        self, ids_BL: np.ndarray, maskable_BL: np.ndarray, states_B: np.ndarray
    ) -> np.ndarray:
        opens_BL = np.zeros(ids_BL.shape, dtype=bool)
        opens_BL[:, 0] = True
        tokenizer = self.context.tokenizer
        flat = word_begins(ids_BL.ravel(), maskable_BL.ravel(), opens_BL.ravel(), tokenizer)
        return flat.reshape(ids_BL.shape)
