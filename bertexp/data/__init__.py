"""Corpora, tokenizers, and the tokens that runs read."""
