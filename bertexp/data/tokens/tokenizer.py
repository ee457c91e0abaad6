"""Tokenizers: how they cut and number text, and which tokens mask, pad, open and close it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from tokenizers import Tokenizer as Backend
from tokenizers import decoders

from bertexp.data.cache import fingerprint
from bertexp.data.tokens.boundaries import (
    BYTE_SPACE,
    SPACE,
    WordBoundaries,
    bytes_of,
    piece_bytes,
    readable,
)

Ids = Sequence[int] | np.ndarray


@dataclass(frozen=True)
class Roles:
    """Which tokens pad, stand for unknown words, open, close and mask a text.

    The names of the attributes are those of ``transformers``; ``unk`` is None where every text
    can be written in known pieces.
    """

    pad: str = "[PAD]"
    unk: str | None = "[UNK]"
    cls: str = "[CLS]"
    sep: str = "[SEP]"
    mask: str = "[MASK]"

    @property
    def tokens(self) -> dict[str, str]:
        return {role: token for role, token in asdict(self).items() if token is not None}


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer as it was trained or read, known to the rest of the package by its roles.

    Attributes:
        backend: the tokenizer of the ``tokenizers`` library; encodes without special tokens.
        roles: its special tokens. Others that were added to it are words like any.
        separators: how many closing tokens stand between the texts of a pair: 1 in BERT, 2 in
            RoBERTa.
    """

    backend: Backend
    roles: Roles = Roles()
    separators: int = 1

    # How many special tokens a text gets.
    special_in_sequence: ClassVar[int] = 2

    @property
    def special_in_pair(self) -> int:
        return self.special_in_sequence + self.separators

    @cached_property
    def vocab_size(self) -> int:
        """The number of ids, some of which may have no token."""
        return 1 + max(self.backend.get_vocab().values())

    @cached_property
    def pad_id(self) -> int:
        return self._id(self.roles.pad)

    @cached_property
    def unk_id(self) -> int | None:
        return None if self.roles.unk is None else self._id(self.roles.unk)

    @cached_property
    def opening_id(self) -> int:
        return self._id(self.roles.cls)

    @cached_property
    def closing_id(self) -> int:
        return self._id(self.roles.sep)

    @cached_property
    def mask_id(self) -> int:
        return self._id(self.roles.mask)

    @cached_property
    def is_special_V(self) -> np.ndarray:
        """Whether an id has one of the ``roles`` or no token: ``bool`` of shape (vocab_size,)."""
        flags = np.ones(self.vocab_size, dtype=bool)
        flags[[*self.backend.get_vocab().values()]] = False
        flags[[self._id(token) for token in self.roles.tokens.values()]] = True
        return flags

    @property
    def knows_words(self) -> bool:
        """Whether tokens show where words begin; if not, every token counts as a word."""
        return self._boundaries is not None or bool(self._continues_V.any())

    def begins_words(self, ids_N: np.ndarray, opens_N: np.ndarray) -> np.ndarray:
        """Return where words begin among tokens laid end to end: ``bool`` of shape (N,).

        With a prefix for later pieces (WordPiece) that is what has no prefix, else see
        ``WordBoundaries``.

        Args:
            opens_N: where a word begins whatever comes before.
        """
        if self._boundaries is None:
            return ~self._continues_V[ids_N] | opens_N
        return self._boundaries.begins(ids_N, opens_N)

    @cached_property
    def _continues_V(self) -> np.ndarray:
        prefix = self._prefix
        flags = np.array([bool(prefix) and token.startswith(prefix) for token in self.tokens])
        # Added tokens are split off before words are split into pieces.
        flags[[*self.backend.get_added_tokens_decoder()]] = False
        return flags

    @cached_property
    def _boundaries(self) -> WordBoundaries | None:
        if self._spelled is None:
            return None
        added = self.backend.get_added_tokens_decoder()
        spell = bytes_of if self._is_byte_level else piece_bytes
        whole = {*added, *np.flatnonzero(self.is_special_V)}
        spelled = [None if n in whole else spell(token) for n, token in enumerate(self.tokens)]
        return WordBoundaries(spelled, self.backend.pre_tokenizer)

    @cached_property
    def has_space_V(self) -> np.ndarray:
        """Whether a space comes before an id, inside a text: ``bool`` of shape (vocab_size,)."""
        if self._spelled is None:
            return ~self._continues_V
        return np.array([text.startswith(" ") for text in self._spelled])

    @cached_property
    def shown(self) -> list[str]:
        """Every id's token for people to read.

        The letters of a byte-level vocabulary stand for bytes and are decoded: ``Ġcafé`` for
        ``ĠcafÃ©``, and ``\\xf0\\x9f`` for a part of a character.
        """
        if not self._is_byte_level:
            return self.tokens
        added = self.backend.get_added_tokens_decoder()
        return [
            token if index in added else readable(token) for index, token in enumerate(self.tokens)
        ]

    @cached_property
    def bare_tokens(self) -> list[str]:
        """Every id's token within a text, without a prefix or the sign for a space."""
        if self._spelled is None:
            return [token.removeprefix(self._prefix) or token for token in self.tokens]
        signs = BYTE_SPACE if self._is_byte_level else SPACE
        return [token.removeprefix(signs) or " " for token in self.shown]

    def join(self, ids: Sequence[int], written: Sequence[int] | None = None) -> str:
        """Return the text of tokens, special ones among them, with the space before the first.

        Args:
            written: the tokens before some were masked: a mask has the space of what it hides.
        """
        pairs = [*zip(ids, written or ids, strict=True)]
        spaced = [self.has_space_V[old if seen == self.mask_id else seen] for seen, old in pairs]
        if self._is_byte_level:
            names, sign = self.tokens, BYTE_SPACE
        else:
            names, sign = self._spelled or self.bare_tokens, " "
        parts = [
            (sign if has_space else "") + names[index].removeprefix(sign)
            for index, has_space in zip(ids, spaced, strict=True)
        ]
        # Of a byte-level vocabulary several tokens may be one character.
        return decoders.ByteLevel().decode(parts) if self._is_byte_level else "".join(parts)

    @cached_property
    def _prefix(self) -> str:
        """The prefix of a word's later pieces; empty if there is none."""
        return getattr(self.backend.model, "continuing_subword_prefix", None) or ""

    @cached_property
    def _spelled(self) -> list[str] | None:
        """What every id adds to a text, its space included; None where spaces have no sign."""
        if self._prefix or not (self._is_byte_level or SPACE in self._kind):
            return None
        if self._is_byte_level:
            texts = [decoders.ByteLevel().decode([token]) for token in self.tokens]
        else:
            texts = [token.replace(SPACE, " ") for token in self.tokens]
        for index, token in self.backend.get_added_tokens_decoder().items():
            texts[index] = token.content
        return texts

    @cached_property
    def _is_byte_level(self) -> bool:
        return '"ByteLevel"' in self._kind

    @cached_property
    def _kind(self) -> str:
        """The normalizer, pre-tokenizer and decoder as JSON."""
        described = json.loads(self.backend.to_str())
        parts = [described[part] for part in ("normalizer", "pre_tokenizer", "decoder")]
        return json.dumps(parts, ensure_ascii=False)

    @cached_property
    def tokens(self) -> list[str]:
        return [self.backend.id_to_token(index) or "" for index in range(self.vocab_size)]

    @cached_property
    def fingerprint(self) -> str:
        """16 digits that change whenever any text would get other ids."""
        own: dict[str, Any] = {} if self.roles == Roles() else {"roles": asdict(self.roles)}
        own |= {"separators": self.separators} if self.separators > 1 else {}
        return fingerprint(cutting(self.backend) | own)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Return the ids of each text, without special tokens, using all cores."""
        encodings = self.backend.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def sequence(self, first: Ids, second: Ids | None = None) -> np.ndarray:
        """Return one text or two with the special tokens around them, ``int64``."""
        opening, closing = [self.opening_id], [self.closing_id]
        parts = [opening, first, closing]
        if second is not None:
            parts = [opening, first, closing * self.separators, second, closing]
        return np.concatenate(parts, dtype=np.int64, casting="unsafe")

    def _id(self, token: str) -> int:
        index = self.backend.token_to_id(token)
        assert index is not None, token
        return int(index)


def cutting(backend: Backend) -> dict[str, Any]:
    """Return what decides how a text is cut and numbered, without what is put around it."""
    parts: dict[str, Any] = json.loads(backend.to_str())
    return parts | dict.fromkeys(("post_processor", "padding", "truncation"))
