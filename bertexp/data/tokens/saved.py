"""Tokenizers that exist: a vocabulary, a ``tokenizer.json``, a folder or a Hub name."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers

from bertexp.data.hub import find_file, is_away, must_be_local
from bertexp.data.tokens.characters import needs_accents
from bertexp.data.tokens.tokenizer import Roles, Tokenizer
from bertexp.data.tokens.wordpiece import bert_backend
from bertexp.validation import UserError

# The special tokens of BERT and of RoBERTa, for a tokenizer.json without settings.
_USUAL = (Roles(), Roles("<pad>", "<unk>", "<s>", "</s>", "<mask>"))
# The classes of ``transformers`` that cut text as BERT's does, given a vocabulary only.
_AS_BERT = {"BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer"}
# What ``transformers`` calls the settings of BERT's normaliser, and prefers to its file.
_NORMALIZER = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}


def open_tokenizer(
    path: str, key: str, lowercase: bool = True, strip_accents: bool | None = None
) -> Tokenizer:
    """Return a tokenizer as it was saved: added tokens, normalisation, word boundaries and all.

    Args:
        path: a ``vocab.txt``, a ``tokenizer.json``, a folder with one of them or a Hub name.
        key: what the user calls ``path``, for error messages.
        lowercase, strip_accents: for a ``vocab.txt`` that comes without settings of its own.

    Raises:
        UserError: there is no tokenizer, or it lacks a special token, has gaps in its ids, or puts
            other tokens around a text than BERT's or RoBERTa's.
    """
    named, file = f"{key}={path}", Path(path)
    settings: dict[str, Any] | None = None
    if file.name == "tokenizer.json":
        path, file = str(file.parent), file.parent
    if file.is_dir() or not (file.is_file() or file.suffix in (".txt", ".json")):
        file, settings = _look_in(path, named)
    if file.suffix == ".json":
        backend = _read_tokenizer(file, settings or {}, named)
        is_wordpiece = isinstance(backend.model, models.WordPiece)
        roles = _roles(settings or {}, backend.get_vocab(), is_wordpiece, named)
    else:
        roles = _roles(settings or {}, {}, True, named)
        vocabulary = _read_vocabulary(file, roles, named)
        folding = {"do_lower_case": lowercase, "strip_accents": strip_accents} | (settings or {})
        if folding["strip_accents"] is None and needs_accents(Counter("".join(vocabulary))):
            folding["strip_accents"] = False
        fold = {name: folding[name] for name in ("do_lower_case", "strip_accents")}
        if settings is None:
            backend = bert_backend(vocabulary, *fold.values())
        else:
            backend = _of_folder(path, vocabulary, settings, fold, named)
    return _checked(Tokenizer(backend, roles), named)


def _look_in(path: str, named: str) -> tuple[Path, dict[str, Any]]:
    reason = "it has neither a tokenizer.json nor a vocab.txt"
    settings: dict[str, Any] = {}
    try:
        file = find_file(path, "tokenizer.json") or find_file(path, "vocab.txt")
        for name in ("special_tokens_map.json", "tokenizer_config.json"):
            if found := find_file(path, name):
                settings |= json.loads(found.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        file, reason = None, str(error).strip().splitlines()[0].rstrip(".: ")
    if file is None and is_away(path):
        raise UserError(
            f"{named}: the Hugging Face Hub does not answer and the tokenizer is not in its cache "
            "here; type tokenizer=wordpiece (trained on the corpus), or tokenizer.path=vocab.txt, "
            "or run this once with a network."
        )
    if file is None:
        raise UserError(
            f"{named}: no vocabulary file, no folder with a tokenizer, and no name that the "
            f"Hub knows ({reason})."
        )
    return file, settings


def _roles(
    settings: dict[str, Any], vocabulary: Container[str], needs_unk: bool, named: str
) -> Roles:
    """Return the special tokens as ``transformers`` saves them; else the usual ones that fit."""
    fitting = (each for each in _USUAL if each.cls in vocabulary and each.mask in vocabulary)
    usual = asdict(next(fitting, Roles()))
    if not needs_unk and usual["unk"] not in vocabulary:
        usual["unk"] = None
    tokens: dict[str, Any] = {}
    for role in usual:
        token = settings.get(f"{role}_token", usual[role])
        token = token.get("content") if isinstance(token, dict) else token
        if not (isinstance(token, str) or (role == "unk" and not needs_unk)):
            raise UserError(f"{named}: its tokenizer_config.json names no {role}_token.")
        tokens[role] = token
    return Roles(**tokens)


def _read_tokenizer(file: Path, settings: dict[str, Any], named: str) -> Backend:
    try:
        backend = Backend.from_file(str(file))
    except Exception as error:  # the library raises nothing more precise
        raise UserError(f"{named}: {file.name} cannot be read as a tokenizer: {error}.") from error
    if isinstance(backend.normalizer, normalizers.BertNormalizer):
        for name in _NORMALIZER.keys() & settings.keys():
            setattr(backend.normalizer, _NORMALIZER[name], settings[name])
    backend.no_truncation()
    backend.no_padding()
    return backend


def _read_vocabulary(file: Path, roles: Roles, named: str) -> dict[str, int]:
    try:
        # Windows' editors put a mark before the first word.
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"{named}: cannot be read as a vocabulary: {error}.") from error
    if lines[-1] == "":
        lines.pop()
    vocabulary = {token: index for index, token in enumerate(lines)}
    missing = [token for token in roles.tokens.values() if token not in vocabulary]
    if missing:
        raise UserError(
            f"{named}: no {', '.join(missing)} among its {len(vocabulary)} lines; a BERT "
            "vocabulary holds a token a line."
        )
    if len(vocabulary) < len(lines) or "" in vocabulary:
        line = next(n for n, token in enumerate(lines) if not token or vocabulary[token] != n)
        last = vocabulary[lines[line]] + 1
        what = f"'{lines[line]}' is line {last} too" if lines[line] else "is empty"
        raise UserError(f"{named}: line {line + 1} of its vocabulary: {what}.")
    return vocabulary


def _of_folder(
    path: str,
    vocabulary: dict[str, int],
    settings: dict[str, Any],
    fold: dict[str, Any],
    named: str,
) -> Backend:
    from transformers import BertTokenizer

    kind = str(settings.get("tokenizer_class") or "BertTokenizer")
    if kind.removesuffix("Fast") not in _AS_BERT:
        raise UserError(
            f"{named}: is a {kind}, which cuts text in ways that a vocab.txt does not record; save "
            "it as a tokenizer.json."
        )
    try:
        tokenizer = BertTokenizer.from_pretrained(
            path, vocab=vocabulary, local_files_only=must_be_local(path), **fold
        )
    except Exception as error:  # what it raises depends on where the files do not fit
        reason = str(error).strip().splitlines()[0].rstrip(".: ")
        raise UserError(f"{named}: cannot be read as a tokenizer ({reason}).") from error
    backend: Backend = tokenizer.backend_tokenizer
    return backend


def _checked(tokenizer: Tokenizer, named: str) -> Tokenizer:
    """Return a tokenizer that can be trained with.

    Raises:
        UserError: it cannot.
    """
    backend, roles = tokenizer.backend, tokenizer.roles.tokens
    # A byte-level vocabulary knows everything; Unigram has a number for it.
    unknown = getattr(backend.model, "unk_token", None)
    if unknown is not None and unknown != tokenizer.roles.unk:
        raise UserError(
            f"{named}: marks unknown words with {unknown}, and its settings name "
            f"{tokenizer.roles.unk} for that."
        )
    vocabulary = backend.get_vocab()
    for role, token in roles.items():
        if token not in vocabulary:
            raise UserError(f"{named}: has no {token}, which is to be its {role}_token.")
    gaps = sorted({*range(len(vocabulary))} - {*vocabulary.values()})
    if gaps:
        raise UserError(
            f"{named}: has {len(vocabulary)} tokens, none with the id {gaps[0]} and one with the "
            f"id {max(vocabulary.values())}; ids must go from 0 up without gaps, each once."
        )
    if backend.post_processor is None:
        return tokenizer
    word, found = backend.encode("a", add_special_tokens=False).ids, backend.encode("a", "a").ids
    for separators in (1, 2):
        one = replace(tokenizer, separators=separators)
        if found == one.sequence(word, word).tolist():
            return one
    cls, sep = roles["cls"], roles["sep"]
    raise UserError(
        f"{named}: puts other tokens around a pair of texts than {cls} A {sep} B {sep} or "
        f"{cls} A {sep} {sep} B {sep}, which is what bertexp trains on."
    )
