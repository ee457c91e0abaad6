"""Tokens: tokenizers, and the ids of a corpus, stored once and memory-mapped.

A ``tokenizer`` is trained (``wordpiece``, ``training``) or ``saved`` with its special tokens
(``roles``); ``encoding`` makes ids of much text, for the ``store`` or a ``stream``.
"""
