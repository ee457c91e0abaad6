"""Corpora, tokenizers and stored tokens."""
