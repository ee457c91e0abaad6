"""WordPiece tokenizers: trained on the corpus and cached, or loaded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from bertexp.cache import cached, fingerprint
from bertexp.tokens.config import TokenizerConfig
from bertexp.validation import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from bertexp.corpora.store import CorpusStore

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUATION = "##"
FORMAT_VERSION = 1


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

        return BertTokenizer(
            vocab=self.backend.get_vocab(),
            do_lower_case=self.lowercase,
            model_max_length=max_length,
        )

    def _special_id(self, token: str) -> int:
        index = self.backend.token_to_id(token)
        if index is None:
            raise UserError(
                f"The tokenizer has no {token}: bertexp needs BERT's {', '.join(SPECIAL_TOKENS)}."
            )
        return int(index)


def load_tokenizer(config: TokenizerConfig, corpus: CorpusStore) -> WordPieceTokenizer:
    """Return the tokenizer that ``config`` asks for.

    ``wordpiece`` is trained on the corpus's training documents, once: it is cached by
    the corpus's content, the vocabulary's size and the case folding.

    Raises:
        UserError: a path that holds no WordPiece vocabulary, or one that lacks a special token.
    """
    if config.name == "pretrained":
        assert config.path is not None
        tokenizer = _load_pretrained(config.path, config.lowercase)
    else:
        tokenizer = _load_trained(config, corpus)
    assert tokenizer.is_special_V.sum() == len(SPECIAL_TOKENS)
    return tokenizer


def _load_trained(config: TokenizerConfig, corpus: CorpusStore) -> WordPieceTokenizer:
    key = {
        "format": FORMAT_VERSION,
        "corpus": corpus.fingerprint,
        "vocab_size": config.vocab_size,
        "lowercase": config.lowercase,
    }

    def build(folder: Path) -> None:
        texts = (
            paragraph for document in corpus.documents("train") for paragraph in document.paragraphs
        )
        train_wordpiece(texts, config.vocab_size, config.lowercase).save(
            str(folder / "tokenizer.json")
        )

    folder = cached("tokenizer", key, build)
    return WordPieceTokenizer(Tokenizer.from_file(str(folder / "tokenizer.json")), config.lowercase)


def train_wordpiece(texts: Iterable[str], vocab_size: int, lowercase: bool) -> Tokenizer:
    """Train a WordPiece vocabulary with BERT's normalisation and word boundaries."""
    backend = bert_backend(models.WordPiece(unk_token="[UNK]"), lowercase)
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        continuing_subword_prefix=CONTINUATION,
        show_progress=False,
        # Rare characters become [UNK] rather than crowd out whole words.
        limit_alphabet=min(1000, vocab_size // 4),
    )
    backend.train_from_iterator(_in_chunks(texts), trainer)
    return backend


def bert_backend(model: models.WordPiece, lowercase: bool) -> Tokenizer:
    """Return a tokenizer that normalises and parts words as BERT does."""
    backend = Tokenizer(model)
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix=CONTINUATION)
    return backend


def _in_chunks(texts: Iterable[str], size: int = 1024) -> Iterator[list[str]]:
    chunk: list[str] = []
    for text in texts:
        chunk.append(text)
        if len(chunk) == size:
            yield chunk
            chunk = []
    yield chunk


def _load_pretrained(path: str, lowercase: bool) -> WordPieceTokenizer:
    """Load a ``vocab.txt``, a folder that ``from_pretrained`` takes, or a Hub name."""
    local = Path(path).expanduser()
    if local.is_file() and local.suffix != ".json":
        return WordPieceTokenizer(bert_backend(_read_vocabulary(local), lowercase), lowercase)
    backend = Tokenizer.from_file(str(local)) if local.is_file() else _from_transformers(path)
    if not isinstance(backend.model, models.WordPiece):
        raise UserError(
            f"tokenizer.path={path}: is a {type(backend.model).__name__} tokenizer; "
            "bertexp needs WordPiece, as BERT's."
        )
    backend.no_truncation()
    backend.no_padding()
    return WordPieceTokenizer(backend, bool(getattr(backend.normalizer, "lowercase", lowercase)))


def _read_vocabulary(path: Path) -> models.WordPiece:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(
            f"tokenizer.path={path}: cannot be read as a vocabulary: {error}."
        ) from error
    vocabulary = {token: index for index, token in enumerate(lines) if token}
    missing = [token for token in SPECIAL_TOKENS if token not in vocabulary]
    if missing:
        raise UserError(
            f"tokenizer.path={path}: no {', '.join(missing)} among its {len(vocabulary)} lines; "
            "a BERT vocabulary holds a token a line."
        )
    return models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100)


def _from_transformers(path: str) -> Tokenizer:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"tokenizer.path={path}: no vocabulary file, no folder with a tokenizer, and the "
            f"Hub gave none ({reason})."
        ) from error
    return tokenizer.backend_tokenizer
