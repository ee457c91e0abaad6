"""Encoding large amounts of text, passing each distinct word to the tokenizer only once."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer as Backend
from tokenizers import normalizers, pre_tokenizers

from bertexp.arrays import ranges
from bertexp.data.tokens.tokenizer import Tokenizer

# Marks cuts in texts; a batch of texts that already has it is not cut.
_CUT = "\x00"
# Normalizers that work within the text between single spaces.
_WITHIN_SPACES = {"NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Precompiled"}
# The table is cleared once it has more characters than this, to bound memory.
TABLE_CHARACTERS = 1 << 21


class TextEncoder:
    """Encodes texts as ``Tokenizer.encode`` does, several times as fast.

    BERT's normalisation and word boundaries never look across a space, so the ids of a text are
    those of its parts between spaces, most of which have been seen before. The same holds for
    byte-level BPE and SentencePiece if each part keeps the space before it, except in texts with
    added tokens or consecutive spaces. Tokenizers that may look across spaces get whole texts.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32)
        self._cuts = cuts_at_spaces(tokenizer.backend)
        self._keeps_spaces = not self._cuts and cuts_before_spaces(tokenizer.backend)
        added = (token.content for token in tokenizer.backend.get_added_tokens_decoder().values())
        self._uncut = "|".join(["  ", *map(re.escape, added)])
        self._forget()

    @property
    def vocab_size(self) -> int:
        return self._tokenizer.vocab_size

    def encode(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of all texts, concatenated, and the number of ids per text.

        Ids are ``uint16`` if the vocabulary allows it, otherwise ``uint32``.
        """
        parts = pa.array(texts, pa.large_string())
        cuts = self._cuts or (
            self._keeps_spaces and not pc.any(pc.match_substring(parts, _CUT)).as_py()
        )
        if cuts:
            if self._keeps_spaces:
                cut = pc.replace_substring(parts, " ", f"{_CUT} ")
                parts = pc.if_else(pc.match_substring_regex(parts, self._uncut), parts, cut)
            parts = pc.split_pattern(parts, _CUT if self._keeps_spaces else " ")
            counts = np.diff(parts.offsets.to_numpy())
            parts = parts.flatten()
        encoded = parts.dictionary_encode()
        distinct = encoded.dictionary.to_pylist()
        numbers = np.fromiter(map(self._numbers.__getitem__, distinct), np.int64, len(distinct))
        self._learn()
        numbers_P = numbers[encoded.indices.to_numpy()]
        sizes_P = np.diff(self._offsets)[numbers_P]
        ids = self._ids[ranges(sizes_P, self._offsets[numbers_P])]
        if self._characters > TABLE_CHARACTERS:
            self._forget()
        if cuts:
            # Even an empty text has one part, an empty one, so each sum has a term.
            sizes_P = np.add.reduceat(sizes_P, np.cumsum(counts) - counts) if texts else sizes_P
        return ids, sizes_P

    def _forget(self) -> None:
        self._numbers = _Numbers()
        self._characters = 0
        self._ids = np.empty(0, self.dtype)
        self._offsets = np.zeros(1, np.int64)

    def _learn(self) -> None:
        new = self._numbers.new
        if not new:
            return
        encoded = self._tokenizer.encode(new)
        sizes = np.fromiter(map(len, encoded), np.int64, len(new))
        ids = np.fromiter((i for ids in encoded for i in ids), self.dtype, int(sizes.sum()))
        self._ids = np.concatenate([self._ids, ids])
        self._offsets = np.append(self._offsets, self._offsets[-1] + np.cumsum(sizes))
        self._characters += sum(map(len, new))
        new.clear()


class _Numbers(dict[str, int]):
    """Numbers strings by first occurrence; ``new`` lists those that are not encoded yet."""

    def __init__(self) -> None:
        self.new: list[str] = []

    def __missing__(self, text: str) -> int:
        number = self[text] = len(self)
        self.new.append(text)
        return number


def cuts_at_spaces(backend: Backend) -> bool:
    """Whether encoding a text equals encoding its parts between spaces."""
    bert = isinstance(backend.normalizer, normalizers.BertNormalizer)
    bert = bert and isinstance(backend.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
    added = backend.get_added_tokens_decoder().values()
    return bert and not any(
        token.lstrip or token.rstrip or token.normalized or " " in token.content for token in added
    )


def cuts_before_spaces(backend: Backend) -> bool:
    """Whether encoding a text equals encoding its parts, each with the space before it.

    This is about texts without added tokens or consecutive spaces.
    """
    described = json.loads(backend.to_str())
    parting = _components(described["pre_tokenizer"], "pretokenizers")
    changes = _components(described["normalizer"], "normalizers")
    # The first pre-tokenizer splits at spaces; the others only split further.
    first = parting[0] if parting else {}
    is_byte_level = first.get("type") == "ByteLevel" and first["use_regex"]
    is_metaspace = first.get("type") == "Metaspace" and first["split"]
    if not (is_byte_level or (is_metaspace and first["prepend_scheme"] == "always")):
        return False
    one_space = [{"Regex": r"\s+"}, {"Regex": " {2,}"}]
    return all(
        each["type"] in _WITHIN_SPACES
        or (is_metaspace and each["type"] == "Strip")
        or (is_metaspace and each["type"] == "Replace" and each["pattern"] in one_space)
        for each in changes
    ) and not any(
        token.lstrip or token.rstrip or token.normalized
        for token in backend.get_added_tokens_decoder().values()
    )


def _components(described: dict[str, Any] | None, parts: str) -> list[dict[str, Any]]:
    """Return the components of a serialised ``Sequence``, or the only component."""
    if described is None:
        return []
    return described[parts] if described["type"] == "Sequence" else [described]
