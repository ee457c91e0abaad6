"""The text of tokens, in which vocabularies write spaces and bytes as special characters."""

from __future__ import annotations

import re

# The characters for a space in SentencePiece and in byte-level BPE.
SPACE, BYTE_SPACE = "▁", "Ġ"
_BYTE_PIECE = re.compile("<0x([0-9A-F]{2})>")


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
