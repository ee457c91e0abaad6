"""Existing tokenizers: a vocabulary, a ``tokenizer.json``, a folder or a Hub name."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend
from tokenizers import normalizers

from bertexp.data.hub import find_file, is_unreachable, must_be_local, refuse_run
from bertexp.data.tokens.characters import needs_accents
from bertexp.data.tokens.roles import token_of, with_roles
from bertexp.data.tokens.tokenizer import Roles, Tokenizer
from bertexp.data.tokens.wordpiece import bert_backend
from bertexp.validation import UserError, first_line, reported

log = logging.getLogger(__name__)

# Classes of ``transformers`` that a vocabulary alone defines, as they split text like BERT's.
_AS_BERT = {"BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer"}
# Names in ``transformers`` for the settings of BERT's normaliser; they override its file.
_NORMALIZER = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
# Those of them that are keys, with the defaults.
_FOLDING = {"do_lower_case": True, "strip_accents": None}


def open_tokenizer(
    path: str, key: str, lowercase: bool = True, strip_accents: bool | None = None
) -> Tokenizer:
    """Return a tokenizer as it was saved, with its added tokens, normalisation and pre-tokenizer.

    Args:
        path: a ``vocab.txt``, a ``tokenizer.json``, a folder with one of them or a Hub name.
        key: the key of ``path``, for error messages.
        lowercase, strip_accents: used for a ``vocab.txt`` without settings of its own; otherwise
            a value that is not the default is logged as not read.

    Raises:
        UserError: there is no tokenizer, or it is unsuitable for training, see ``with_roles``.
    """
    named, file = f"{key}={path}", Path(path)
    settings: dict[str, Any] | None = None
    chosen: dict[str, Any] = dict(zip(_FOLDING, (lowercase, strip_accents), strict=True))
    if file.suffix in (".txt", ".json") and not file.exists():
        raise UserError(f"{named}: no such file.")
    if file.name == "tokenizer.json":
        path, file = str(file.parent), file.parent
    if not file.is_file():
        file, settings = _look_in(path, named)
    if file.suffix == ".json":
        _warn_unread(chosen, chosen, named)
        backend = _read_tokenizer(file, settings or {}, named)
    else:
        vocabulary = _read_vocabulary(file, settings or {}, named)
        folding = chosen | (settings or {})
        _warn_unread(chosen, settings or {}, named)
        if folding["strip_accents"] is None and needs_accents(Counter("".join(vocabulary))):
            folding["strip_accents"] = False
        fold = {name: folding[name] for name in _FOLDING}
        if settings is None:
            backend = bert_backend(vocabulary, *fold.values())
        else:
            backend = _of_folder(path, vocabulary, settings, fold, named)
    return with_roles(backend, settings or {}, named)


def _warn_unread(chosen: dict[str, Any], own: Collection[str], named: str) -> None:
    for name, default in _FOLDING.items():
        if name in own and chosen[name] != default:
            log.warning(
                "tokenizer.%s=%s: is not read, as %s has its own setting; the key is for trained "
                "tokenizers and a bare vocab.txt.",
                *(_NORMALIZER[name], str(chosen[name]).lower(), named),
            )


def _look_in(path: str, named: str) -> tuple[Path, dict[str, Any]]:
    reason = ""
    settings: dict[str, Any] = {}
    try:
        file = find_file(path, "tokenizer.json") or find_file(path, "vocab.txt")
        for name in ("special_tokens_map.json", "tokenizer_config.json"):
            if found := find_file(path, name):
                settings |= _read_settings(found, named)
    except (OSError, ValueError) as error:
        file, reason = None, first_line(error)
    if file is None and is_unreachable(path):
        raise UserError(
            f"{named}: the Hugging Face Hub does not answer and the tokenizer is not in its cache "
            "here; type tokenizer=wordpiece (trained on the corpus), or tokenizer.path=vocab.txt, "
            "or run this once with a network."
        )
    if file is None and not reason:
        refuse_run(path, named)
        raise UserError(
            f"{named}: has no tokenizer (no tokenizer.json or vocab.txt); transformers' "
            "AutoTokenizer writes one there with save_pretrained."
        )
    if file is None:
        raise UserError(
            f"{named}: no vocabulary file, no folder with a tokenizer, and no name that the "
            f"Hub knows ({reason})."
        )
    return file, settings


def _read_settings(file: Path, named: str) -> dict[str, Any]:
    with reported(f"{named}: its {file.name} cannot be read", ValueError):
        found = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise UserError(f"{named}: its {file.name} holds no settings.")
    return found


def _read_tokenizer(file: Path, settings: dict[str, Any], named: str) -> Backend:
    # The library raises no specific type.
    with reported(f"{named}: {file.name} cannot be read as a tokenizer", Exception):
        backend = Backend.from_file(str(file))
    if isinstance(backend.normalizer, normalizers.BertNormalizer):
        for name in _NORMALIZER.keys() & settings.keys():
            setattr(backend.normalizer, _NORMALIZER[name], settings[name])
    backend.no_truncation()
    backend.no_padding()
    return backend


def _read_vocabulary(file: Path, settings: dict[str, Any], named: str) -> dict[str, int]:
    with reported(f"{named}: cannot be read as a vocabulary", UnicodeDecodeError, OSError):
        # Some editors on Windows put a byte order mark before the first word.
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    if lines[-1] == "":
        lines.pop()
    vocabulary = {token: index for index, token in enumerate(lines)}
    roles = {role: token_of(settings, role) or usual for role, usual in asdict(Roles()).items()}
    missing = [token for token in roles.values() if token not in vocabulary]
    if missing:
        raise UserError(
            f"{named}: no {', '.join(missing)} among its {len(vocabulary)} lines; a BERT "
            "vocabulary has one token per line."
        )
    if len(vocabulary) < len(lines) or "" in vocabulary:
        line = next(n for n, token in enumerate(lines) if not token or vocabulary[token] != n)
        what = f"'{lines[line]}' is repeated" if lines[line] else "is empty"
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
    # The type depends on what is wrong with the files.
    with reported(f"{named}: cannot be read as a tokenizer", Exception):
        tokenizer = BertTokenizer.from_pretrained(
            path, vocab=vocabulary, local_files_only=must_be_local(path), **fold
        )
    return tokenizer.backend_tokenizer
