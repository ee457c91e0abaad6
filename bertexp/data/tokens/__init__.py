"""Tokens: text in, ids out, stored once and memory-mapped."""
