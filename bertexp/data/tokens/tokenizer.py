"""WordPiece tokenizers: how they cut and number text, and how one is trained on a corpus."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer, normalizers, processors

from bertexp.data.cache import cached, fingerprint
from bertexp.data.tokens.config import TokenizerConfig
from bertexp.data.tokens.wordpiece import train_wordpiece

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from bertexp.data.corpora.store import CorpusStore

FORMAT_VERSION = 3


@dataclass(frozen=True)
class Roles:
    """Which tokens pad, stand for unknown words, open, close and mask a text."""

    pad: str = "[PAD]"
    unk: str = "[UNK]"
    cls: str = "[CLS]"
    sep: str = "[SEP]"
    mask: str = "[MASK]"


@dataclass(frozen=True)
class WordPieceTokenizer:
    """A WordPiece tokenizer, as it was trained or read.

    Attributes:
        backend: the tokenizer of the ``tokenizers`` library; encodes without special tokens.
        roles: its special tokens. Others that were added to it are words like any.
    """

    backend: Tokenizer
    roles: Roles = Roles()

    @property
    def vocab_size(self) -> int:
        """Number of ids, the special tokens included."""
        return self.backend.get_vocab_size()

    @cached_property
    def pad_id(self) -> int:
        return self._id(self.roles.pad)

    @cached_property
    def unk_id(self) -> int:
        return self._id(self.roles.unk)

    @cached_property
    def cls_id(self) -> int:
        return self._id(self.roles.cls)

    @cached_property
    def sep_id(self) -> int:
        return self._id(self.roles.sep)

    @cached_property
    def mask_id(self) -> int:
        return self._id(self.roles.mask)

    @cached_property
    def is_special_V(self) -> np.ndarray:
        """Whether an id has one of the ``roles``: ``bool`` of shape (vocab_size,)."""
        flags = np.zeros(self.vocab_size, dtype=bool)
        flags[[self._id(token) for token in asdict(self.roles).values()]] = True
        return flags

    @property
    def continuation(self) -> str:
        """What the pieces of a word begin with that are not its first."""
        prefix: str = self.backend.model.continuing_subword_prefix
        return prefix

    @cached_property
    def is_continuation_V(self) -> np.ndarray:
        """Whether an id goes on with the word before it: ``bool`` of shape (vocab_size,)."""
        prefix = self.continuation
        flags = np.array([bool(prefix) and token.startswith(prefix) for token in self.tokens])
        # What was added is cut out of the text as a whole.
        flags[[*self.backend.get_added_tokens_decoder()]] = False
        return flags

    @cached_property
    def tokens(self) -> list[str]:
        """The token of every id."""
        return [str(self.backend.id_to_token(index)) for index in range(self.vocab_size)]

    @cached_property
    def fingerprint(self) -> str:
        """16 digits that change whenever the tokenizer cuts or numbers anything otherwise."""
        own = {} if self.roles == Roles() else {"roles": asdict(self.roles)}
        return fingerprint(_cutting(self.backend) | own)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Return the ids of each text, without special tokens, using all cores."""
        encodings = self.backend.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def to_transformers(self, max_length: int) -> PreTrainedTokenizerFast:
        """Return it as what ``AutoTokenizer`` loads from a saved model, see ``open_tokenizer``.

        That is a ``BertTokenizer`` where this class cuts text in the same way: it keeps nothing
        of a tokenizer but its vocabulary, case and accents. The special tokens are put around a
        text as in training: ``[CLS] A [SEP]``, ``[CLS] A [SEP] B [SEP]``.
        """
        from transformers import BertTokenizer, PreTrainedTokenizerFast

        normalizer = self.backend.normalizer
        settings: dict[str, Any] = {
            **{f"{role}_token": token for role, token in asdict(self.roles).items()},
            "model_max_length": max_length,
        }
        if isinstance(normalizer, normalizers.BertNormalizer):
            bert: PreTrainedTokenizerFast = BertTokenizer(
                vocab=self.backend.get_vocab(with_added_tokens=False),
                do_lower_case=normalizer.lowercase,
                strip_accents=normalizer.strip_accents,
                tokenize_chinese_chars=normalizer.handle_chinese_chars,
                **settings,
            )
            if _cutting(bert.backend_tokenizer) == _cutting(self.backend):
                return bert
        whole = PreTrainedTokenizerFast(
            tokenizer_object=self.backend,
            model_input_names=["input_ids", "token_type_ids", "attention_mask"],
            **settings,
        )
        whole.backend_tokenizer.post_processor = self._template()
        return whole

    def _template(self) -> processors.TemplateProcessing:
        cls, sep = self.roles.cls, self.roles.sep
        return processors.TemplateProcessing(
            single=f"{cls}:0 $A:0 {sep}:0",
            pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
            special_tokens=[(cls, self.cls_id), (sep, self.sep_id)],
        )

    def _id(self, token: str) -> int:
        index = self.backend.token_to_id(token)
        assert index is not None, token
        return int(index)


def _cutting(backend: Tokenizer) -> dict[str, Any]:
    """Return what decides how a text is cut and numbered, without what is put around it."""
    described: dict[str, Any] = json.loads(backend.to_str())
    return described | dict.fromkeys(("post_processor", "padding", "truncation"))


def train_tokenizer(config: TokenizerConfig, corpus: CorpusStore) -> WordPieceTokenizer:
    """Return a tokenizer trained on the corpus's training documents, or find it in the cache.

    There it is named by the corpus's content and by ``tokenizer.*``.
    """
    settings = (config.vocab_size, config.lowercase, config.strip_accents)
    names = ("vocab_size", "lowercase", "strip_accents")
    key = {
        "format": FORMAT_VERSION,
        "corpus": corpus.fingerprint,
        **dict(zip(names, settings, strict=True)),
    }

    def build(folder: Path) -> None:
        backend = train_wordpiece(_Paragraphs(corpus), *settings)
        backend.save(str(folder / "tokenizer.json"))

    folder = cached("tokenizer", key, build)
    return WordPieceTokenizer(Tokenizer.from_file(str(folder / "tokenizer.json")))


@dataclass(frozen=True)
class _Paragraphs:
    """The paragraphs of a corpus's training documents, as often as they are asked for."""

    corpus: CorpusStore

    def __iter__(self) -> Iterator[str]:
        for document in self.corpus.documents("train"):
            yield from document.paragraphs
