"""The text of each token, and where words begin among tokens, without the text they are from."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from tokenizers.pre_tokenizers import PreTokenizer

# The characters for a space in SentencePiece and in byte-level BPE.
SPACE, BYTE_SPACE = "▁", "Ġ"
_BYTE_PIECE = re.compile("<0x([0-9A-F]{2})>")

# Kinds of characters. A PART is not a character by itself and never begins a word: an accent, a
# joiner, or the later bytes of a character that is split into bytes. Added tokens are ALONE.
_PART, _LETTER, _DIGIT, _SIGN, _IDEOGRAPH, _SPACE, _BREAK, _ALONE = range(8)
_IDEOGRAPHS = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
# Bytes that can complete a truncated character in UTF-8.
_REST = (b"\x81\x81\x81", b"\xa4\x85", b"\x9f\x98\x80", b"\xa0\x80\x80")


def _byte_letters() -> dict[str, int]:
    """Return GPT-2's map of characters to bytes: unprintable bytes get characters from 256 on."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in own]
    return {chr(byte): byte for byte in own} | {chr(256 + n): b for n, b in enumerate(others)}


_BYTES = _byte_letters()
# Spaces and control characters are shown as they are in the vocabulary (``Ġ`` for a space).
_BLANKS = {byte: letter for letter, byte in _BYTES.items() if byte < 0x80 and byte != ord(letter)}


def bytes_of(token: str) -> bytes:
    """Return the bytes that a token of a byte-level vocabulary stands for."""
    return bytes(_BYTES[letter] for letter in token)


def piece_bytes(piece: str) -> bytes:
    """Return the bytes of a SentencePiece piece; ``<0x0A>`` is a single byte."""
    byte = _BYTE_PIECE.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else piece.replace(SPACE, " ").encode()


def readable(token: str) -> str:
    r"""Decode a token of a byte-level vocabulary to display it, part of a character as ``\xf0``."""
    return bytes_of(token).decode("utf-8", errors="backslashreplace").translate(_BLANKS)


class WordBoundaries:
    """Finds where words begin among tokens that include the space before them.

    A word begins

    - at a space, which belongs to the word after it, and after a line break;
    - between signs and letters or digits: as in BERT, punctuation is not part of a word, even if
      the pre-tokenizer keeps it there (Metaspace);
    - before and after each piece of ideographs: Chinese has no spaces, and BERT too masks single
      characters as its words;
    - between letters and digits, and between two signs, if the tokenizer's own pre-tokenizer
      splits them.

    Args:
        spelled: the bytes that each id adds to a text, including its space; None for a token that
            is a word by itself.
    """

    def __init__(self, spelled: Sequence[bytes | None], pre_tokenizer: PreTokenizer | None) -> None:
        kinds = [_kinds(text) for text in spelled]
        self._first_V = np.array([first for first, _ in kinds], np.uint8)
        self._last_V = np.array([last for _, last in kinds], np.uint8)
        self._begins = _table(pre_tokenizer)

    def begins(self, ids_N: np.ndarray, opens_N: np.ndarray) -> np.ndarray:
        """Return where words begin, shape (N,); always where ``opens_N`` is True."""
        last_N = self._last_V[ids_N]
        # A part has the kind of the character that it belongs to.
        places_N = np.where((last_N != _PART) | opens_N, np.arange(len(ids_N)), 0)
        last_N = last_N[np.maximum.accumulate(places_N)]
        begins_N = opens_N.copy()
        begins_N[1:] |= self._begins[last_N[:-1], self._first_V[ids_N[1:]]]
        return begins_N


def _table(pre_tokenizer: PreTokenizer | None) -> np.ndarray:
    """Return whether a word begins, indexed by the kinds of the previous and this character."""
    begins = np.ones((8, 8), bool)
    within = [_PART, _LETTER]
    begins[np.ix_(within, within)] = False
    begins[_DIGIT, _DIGIT] = False
    begins[within, _DIGIT] = _parts("a1", pre_tokenizer)
    begins[_DIGIT, _LETTER] = _parts("1a", pre_tokenizer)
    begins[_SIGN, _SIGN] = _parts("!!", pre_tokenizer)
    begins[_SPACE, :_SPACE] = False
    begins[:, _PART] = False
    return begins


def _parts(text: str, pre_tokenizer: PreTokenizer | None) -> bool:
    """Whether the pre-tokenizer splits a text after its first character."""
    if pre_tokenizer is None:
        return False
    return any(start == 1 for _, (start, _) in pre_tokenizer.pre_tokenize_str(text))


def _kinds(spelled: bytes | None) -> tuple[int, int]:
    """Return the kinds of a token's first character and of its last one that is not a PART."""
    if spelled is None:
        return _ALONE, _ALONE
    text = spelled.lstrip(bytes(range(0x80, 0xC0)))
    known = [_kind(character) for character in _completed(text)]
    whole = [kind for kind in known if kind != _PART]
    first = known[0] if known and len(text) == len(spelled) else _PART
    return first, whole[-1] if whole else _PART


def _completed(text: bytes) -> str:
    """Decode bytes; if the last character is truncated, complete it to another of its script."""
    for rest in (b"", *_REST):
        for size in range(len(rest) + 1):
            try:
                return (text + rest[:size]).decode()
            except UnicodeDecodeError:
                continue
    return text.decode(errors="replace")


def _kind(character: str) -> int:
    category = unicodedata.category(character)
    if _IDEOGRAPHS.match(character):
        return _IDEOGRAPH
    if category[0] == "M" or category == "Cf":
        return _PART
    if character == " ":
        return _SPACE
    if category[0] == "Z" or character.isspace():
        return _BREAK
    return {"L": _LETTER, "N": _DIGIT}.get(category[0], _SIGN)
