"""Tokens: text in, WordPiece ids out, stored once and memory-mapped."""
