"""WordPiece tokenizers: trained on the corpus and cached, or loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer, models

from bertexp.cache import cached, fingerprint
from bertexp.hub import must_be_local
from bertexp.tokens.config import TokenizerConfig
from bertexp.tokens.wordpiece import CONTINUATION, SPECIAL_TOKENS, bert_backend, train_wordpiece
from bertexp.validation import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from bertexp.corpora.store import CorpusStore

FORMAT_VERSION = 3


@dataclass(frozen=True)
class WordPieceTokenizer:
    """A fast WordPiece tokenizer with BERT's five special tokens.

    Attributes:
        backend: the tokenizer of the ``tokenizers`` library; encodes without special tokens.
        lowercase: whether it folds case, for the exported tokenizer's configuration.
    """

    backend: Tokenizer
    lowercase: bool

    @property
    def vocab_size(self) -> int:
        """Number of ids, the special tokens included."""
        return self.backend.get_vocab_size()

    @cached_property
    def pad_id(self) -> int:
        return self._special_id("[PAD]")

    @cached_property
    def unk_id(self) -> int:
        return self._special_id("[UNK]")

    @cached_property
    def cls_id(self) -> int:
        return self._special_id("[CLS]")

    @cached_property
    def sep_id(self) -> int:
        return self._special_id("[SEP]")

    @cached_property
    def mask_id(self) -> int:
        return self._special_id("[MASK]")

    @cached_property
    def is_special_V(self) -> np.ndarray:
        """Whether an id is one of ``SPECIAL_TOKENS``: ``bool`` of shape (vocab_size,)."""
        flags = np.zeros(self.vocab_size, dtype=bool)
        flags[[self._special_id(token) for token in SPECIAL_TOKENS]] = True
        return flags

    @cached_property
    def is_continuation_V(self) -> np.ndarray:
        """Whether an id goes on with the word before it: ``bool`` of shape (vocab_size,)."""
        return np.array([token.startswith(CONTINUATION) for token in self.tokens])

    @cached_property
    def tokens(self) -> list[str]:
        """The token of every id."""
        return [str(self.backend.id_to_token(index)) for index in range(self.vocab_size)]

    @cached_property
    def fingerprint(self) -> str:
        """16 digits that change whenever the tokenizer cuts or numbers anything otherwise."""
        return fingerprint(json.loads(self.backend.to_str()))

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Return the ids of each text, without special tokens, using all cores."""
        encodings = self.backend.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def to_transformers(self, max_length: int) -> PreTrainedTokenizerFast:
        """Return it as the ``BertTokenizer`` that ``AutoTokenizer`` loads from a saved model."""
        from transformers import BertTokenizer

        normalizer = self.backend.normalizer
        tokenizer: PreTrainedTokenizerFast = BertTokenizer(
            vocab=self.backend.get_vocab(),
            do_lower_case=self.lowercase,
            strip_accents=getattr(normalizer, "strip_accents", None),
            tokenize_chinese_chars=getattr(normalizer, "handle_chinese_chars", True),
            model_max_length=max_length,
        )
        return tokenizer

    def _special_id(self, token: str) -> int:
        index = self.backend.token_to_id(token)
        if index is None:
            raise UserError(
                f"The tokenizer has no {token}: bertexp needs BERT's {', '.join(SPECIAL_TOKENS)}."
            )
        return int(index)


def load_tokenizer(config: TokenizerConfig) -> WordPieceTokenizer:
    """Return the tokenizer at ``config.path``.

    Raises:
        UserError: the path holds no WordPiece vocabulary, or one that lacks a special token.
    """
    assert config.path is not None
    tokenizer = load_pretrained(config.path, config.lowercase)
    assert tokenizer.is_special_V.sum() == len(SPECIAL_TOKENS)
    return tokenizer


def train_tokenizer(config: TokenizerConfig, corpus: CorpusStore) -> WordPieceTokenizer:
    """Return a tokenizer trained on the corpus's training documents, or find it in the cache.

    There it is named by the corpus's content, the vocabulary's size and the case folding.
    """
    key = {
        "format": FORMAT_VERSION,
        "corpus": corpus.fingerprint,
        "vocab_size": config.vocab_size,
        "lowercase": config.lowercase,
    }

    def build(folder: Path) -> None:
        backend = train_wordpiece(_Paragraphs(corpus), config.vocab_size, config.lowercase)
        backend.save(str(folder / "tokenizer.json"))

    folder = cached("tokenizer", key, build)
    return WordPieceTokenizer(Tokenizer.from_file(str(folder / "tokenizer.json")), config.lowercase)


@dataclass(frozen=True)
class _Paragraphs:
    """The paragraphs of a corpus's training documents, as often as they are asked for."""

    corpus: CorpusStore

    def __iter__(self) -> Iterator[str]:
        for document in self.corpus.documents("train"):
            yield from document.paragraphs


def load_pretrained(path: str, lowercase: bool) -> WordPieceTokenizer:
    """Return the tokenizer of a ``vocab.txt``, a ``tokenizer.json``, a folder or a Hub name.

    Args:
        path: where it is.
        lowercase: whether it folds case, where ``path`` does not say.

    Raises:
        UserError: there is no WordPiece vocabulary.
    """
    local = Path(path).expanduser()
    if local.suffix == ".txt" or (local.is_file() and local.suffix != ".json"):
        return WordPieceTokenizer(bert_backend(_read_vocabulary(local), lowercase), lowercase)
    backend = _read_tokenizer(local) if local.suffix == ".json" else _from_transformers(path)
    if not isinstance(backend.model, models.WordPiece):
        raise UserError(
            f"tokenizer.path={path}: is a {type(backend.model).__name__} tokenizer; "
            "bertexp needs WordPiece, as BERT's."
        )
    backend.no_truncation()
    backend.no_padding()
    return WordPieceTokenizer(backend, bool(getattr(backend.normalizer, "lowercase", lowercase)))


def _read_tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more precise
        raise UserError(
            f"tokenizer.path={path}: cannot be read as a tokenizer: {error}."
        ) from error


def _read_vocabulary(path: Path) -> dict[str, int]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(
            f"tokenizer.path={path}: cannot be read as a vocabulary: {error}."
        ) from error
    if lines[-1] == "":
        lines.pop()
    vocabulary = {token: index for index, token in enumerate(lines)}
    missing = [token for token in SPECIAL_TOKENS if token not in vocabulary]
    if missing:
        raise UserError(
            f"tokenizer.path={path}: no {', '.join(missing)} among its {len(vocabulary)} lines; "
            "a BERT vocabulary holds a token a line."
        )
    if len(vocabulary) < len(lines) or "" in vocabulary:
        line = next(n for n, token in enumerate(lines) if not token or vocabulary[token] != n) + 1
        raise UserError(f"tokenizer.path={path}: line {line} is empty or stands there twice.")
    return vocabulary


def _from_transformers(path: str) -> Tokenizer:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path, trust_remote_code=False, local_files_only=must_be_local(path)
        )
    except Exception as error:  # what it raises depends on where the files do not fit
        reason = str(error).strip().splitlines()[0].rstrip(".: ")
        raise UserError(
            f"tokenizer.path={path}: no vocabulary file, no folder with a tokenizer, and the "
            f"Hub gave none ({reason})."
        ) from error
    return tokenizer.backend_tokenizer
