"""What tokens spell: vocabularies write spaces and bytes in letters of their own."""

from __future__ import annotations

import re

# What stands for a space in the pieces of SentencePiece, and of byte-level BPE.
SPACE, BYTE_SPACE = "▁", "Ġ"
_BYTE_PIECE = re.compile("<0x([0-9A-F]{2})>")


def _byte_letters() -> dict[str, int]:
    """Return the bytes by their letters; one that has none is given a character from 256 on."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in own]
    return {chr(byte): byte for byte in own} | {chr(256 + n): b for n, b in enumerate(others)}


_BYTES = _byte_letters()
# Spaces and line breaks keep their letters.
_BLANKS = {byte: letter for letter, byte in _BYTES.items() if byte < 0x80 and byte != ord(letter)}


def bytes_of(token: str) -> bytes:
    """Return the bytes of a token of a byte-level vocabulary."""
    return bytes(_BYTES[letter] for letter in token)


def piece_bytes(piece: str) -> bytes:
    """Return the bytes of a piece of SentencePiece, which may stand for a single one."""
    byte = _BYTE_PIECE.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else piece.replace(SPACE, " ").encode()


def readable(token: str) -> str:
    """Return a token of a byte-level vocabulary as the characters that its bytes are."""
    return bytes_of(token).decode("utf-8", errors="backslashreplace").translate(_BLANKS)
