"""Tokens: tokenizers, and the ids of a corpus, stored once and memory-mapped."""
