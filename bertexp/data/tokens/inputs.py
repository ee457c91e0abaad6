"""One text or two, as a model reads them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tokenizers import Encoding

from bertexp.data.tokens.roles import MASKS
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.validation import UserError


@dataclass(frozen=True)
class ModelInput:
    """One text or two with special tokens; each attribute has one value per token.

    Attributes:
        segments: 0 for the first text and its special tokens, 1 for the second.
        words: the word as written, also for each of several pieces; empty for special tokens.
        is_piece: whether the token continues a word.
    """

    ids: list[int]
    tokens: list[str]
    segments: list[int]
    words: list[str]
    is_piece: list[bool]

    @classmethod
    def of(cls, tokenizer: Tokenizer, text: str, text_b: str | None = None) -> ModelInput:
        """Encode one text or two, in which each of ``MASKS`` stands for the tokenizer's.

        Raises:
            UserError: one of them has no tokens.
        """
        ids, segments, words, is_piece = [tokenizer.opening_id], [0], [""], [False]
        for segment, written in enumerate([text] if text_b is None else [text, text_b]):
            for mask in MASKS:
                written = written.replace(mask, tokenizer.roles.mask)
            encoding = tokenizer.backend.encode(written, add_special_tokens=False)
            if not encoding.ids:
                name = "text_b" if segment else "text"
                raise UserError(f"{name}: is empty; it must have at least one token.")
            is_first = text_b is not None and not segment
            closing = [tokenizer.closing_id] * (tokenizer.separators if is_first else 1)
            ids += [*encoding.ids, *closing]
            segments += [segment] * (len(encoding.ids) + len(closing))
            begins = _begins(encoding, tokenizer)
            numbers = np.cumsum(begins).tolist()
            places: dict[int, tuple[int, int]] = {}
            for number, (start, end) in zip(numbers, encoding.offsets, strict=True):
                places[number] = (places.get(number, (start, end))[0], end)
            words += [written[slice(*places[number])].strip() for number in numbers]
            words += [""] * len(closing)
            is_piece += [*(~begins).tolist(), *[False] * len(closing)]
        return cls(ids, [tokenizer.shown[index] for index in ids], segments, words, is_piece)

    def __len__(self) -> int:
        return len(self.ids)

    def check_length(self, limit: int) -> None:
        if len(self) > limit:
            raise UserError(
                f"text: has {len(self)} tokens with {self.tokens[0]} and {self.tokens[-1]}, the "
                f"model takes {limit}; shorten it."
            )


def _begins(encoding: Encoding, tokenizer: Tokenizer) -> np.ndarray:
    """Return where words begin; at and after unknown tokens according to the text."""
    ids_N, words_N = np.array(encoding.ids), np.array(encoding.word_ids)
    opens_N = np.arange(len(ids_N)) == 0
    is_unknown_N = ids_N == tokenizer.unk_id
    is_unknown_N[1:] |= is_unknown_N[:-1].copy()
    written_N = np.append(True, words_N[1:] != words_N[:-1])
    return np.where(is_unknown_N, written_N, tokenizer.begins_words(ids_N, opens_N))
