"""Tokenizers trained on the training documents of a corpus: byte-level BPE and Unigram."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from bertexp.data.cache import cached
from bertexp.data.config import TokenizerConfig
from bertexp.data.corpora.corpus import CorpusStore
from bertexp.data.tokens.boundaries import SPACE
from bertexp.data.tokens.characters import (
    alphabet_size,
    count_characters,
    in_batches,
    needs_accents,
    normalized,
)
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.data.tokens.wordpiece import SPECIAL_TOKENS, train_wordpiece

# Decimals of a piece's score, the logarithm of its probability.
DECIMALS = 4
# The trainer's step between the scores of characters that it has to keep.
_STEP = 1e-4
# Runs of digits and of signs, with the space before them. No piece mixes them with letters, as in
# SentencePiece, which splits at changes of script and at numbers.
_NO_LETTERS = rf"{SPACE}?\p{{N}}+|{SPACE}?[^\p{{L}}\p{{M}}\p{{N}}{SPACE}]+"
# The first run of letters, digits or signs between spaces.
_WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]+")
# Characters of the longest piece, including the space.
_LONGEST = 16


def train_bpe(
    texts: Iterable[str], vocab_size: int, lowercase: bool, strip_accents: bool | None = None
) -> Backend:
    """Train a byte-level BPE (Radford et al. 2019), which can encode any text.

    Words are split as in GPT-2, RoBERTa and ModernBERT. The first word of a text gets a space too,
    so that it has the same tokens as elsewhere.
    """
    if strip_accents is None:
        strip_accents = lowercase and not needs_accents(count_characters(texts))
    backend = Backend(models.BPE())
    backend.normalizer = _normalizer(normalizers.NFC(), lowercase, strip_accents)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[*SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(in_batches(texts), trainer)
    return backend


def train_unigram(
    texts: Iterable[str], vocab_size: int, lowercase: bool, strip_accents: bool | None = None
) -> Backend:
    """Train a Unigram language model of pieces (Kudo 2018), as in SentencePiece.

    Characters that are too rare for the alphabet become [UNK]. Like ALBERT, XLM-R and DeBERTa it
    has no pieces for single bytes, since 256 are a large part of a small vocabulary. The texts are
    read three times.
    """
    written = count_characters(texts)
    if strip_accents is None:
        strip_accents = lowercase and not needs_accents(written)
    backend = _unigram_backend([], lowercase, strip_accents)
    rare = _rare_characters(written, backend.normalizer, vocab_size)
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size,
        special_tokens=[*SPECIAL_TOKENS],
        unk_token="[UNK]",
        show_progress=False,
    )
    # The trainer keeps every character of its text, so rare ones are replaced by spaces.
    known = (text.translate(rare) for text in chain(texts, _doubled_words(texts)))
    backend.train_from_iterator(in_batches(known), trainer)
    pieces = json.loads(backend.to_str())["model"]["vocab"][len(SPECIAL_TOKENS) :]
    vocabulary = [(token, 0.0) for token in SPECIAL_TOKENS]
    vocabulary += _settled(dict(pieces))
    return _unigram_backend(vocabulary, lowercase, strip_accents)


def _doubled_words(texts: Iterable[str]) -> list[str]:
    """Return each word that occurs at least twice, written twice without a space.

    The trainer starts from strings that occur in several distinct words, so without these a whole
    word could only become a piece if it were part of another word.
    """
    written: Counter[str] = Counter()
    for text in texts:
        written.update(word for word in text.split() if len(word) <= 2 * _LONGEST)
    counts: Counter[str] = Counter()
    for word, count in written.items():
        first = _WORD.match(word)
        counts[first[0] if first else word] += count
    return sorted(2 * word for word, n in counts.items() if n > 1 and len(word) < _LONGEST)


def _settled(scores: dict[str, float]) -> list[tuple[str, float]]:
    """Return pieces and scores that are the same in every process, the most likely first.

    The trainer sums floats in the order of a hash table and of its threads, so the last digits of
    scores vary. To characters that it would have dropped it gives the lowest score plus small
    steps, also in the order of a hash table; here all of these get the lowest score.
    """
    least = min(scores.values(), default=0.0)
    steps = least + _STEP * sum(len(piece) == 1 for piece in scores)
    for piece, score in scores.items():
        is_left_out = len(piece) == 1 and score <= steps
        scores[piece] = round(least if is_left_out else score, DECIMALS)
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))


def _unigram_backend(
    vocabulary: list[tuple[str, float]], lowercase: bool, strip_accents: bool
) -> Backend:
    unknown = SPECIAL_TOKENS.index("[UNK]") if vocabulary else None
    backend = Backend(models.Unigram(vocabulary, unk_id=unknown))
    one_space = [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    backend.normalizer = _normalizer(normalizers.NFKC(), lowercase, strip_accents, *one_space)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Split(Regex(_NO_LETTERS), "isolated")]
    )
    backend.decoder = decoders.Metaspace()
    if vocabulary:
        backend.add_special_tokens([*SPECIAL_TOKENS])
    return backend


def _normalizer(
    form: normalizers.Normalizer,
    lowercase: bool,
    strip_accents: bool,
    *others: normalizers.Normalizer,
) -> normalizers.Normalizer:
    folding: list[normalizers.Normalizer] = []
    if strip_accents:
        folding += [normalizers.NFKD() if others else normalizers.NFD(), normalizers.StripAccents()]
    if lowercase:
        folding.append(normalizers.Lowercase())
    return normalizers.Sequence([*folding, form, *others])


def _rare_characters(
    written: Counter[str], normalizer: normalizers.Normalizer, vocab_size: int
) -> dict[int, str]:
    """Return a table for ``str.translate`` from characters outside the alphabet to spaces."""
    counts = normalized(written, normalizer)
    size = alphabet_size(counts, {character: [character] for character in counts}, vocab_size)
    alphabet = {*[*counts][:size]}
    return {
        ord(character): " "
        for character in written
        if not {*normalizer.normalize_str(character)} <= alphabet | {" "}
    }


# By `tokenizer.name`: the function that trains it, and a version, incremented whenever the same
# text would give another vocabulary.
TRAINERS: dict[str, tuple[Callable[..., Backend], int]] = {
    "wordpiece": (train_wordpiece, 3),
    "bpe": (train_bpe, 1),
    "unigram": (train_unigram, 2),
}


def train_tokenizer(config: TokenizerConfig, corpus: CorpusStore) -> Tokenizer:
    """Return a tokenizer trained on the corpus's training documents, or the cached one.

    The same texts give the same vocabulary in every process.
    """
    train, version = TRAINERS[config.name]
    settings = {
        "vocab_size": config.vocab_size,
        "lowercase": config.lowercase,
        "strip_accents": config.strip_accents,
    }
    key = {"format": version, "corpus": corpus.fingerprint, **settings}
    if config.name != "wordpiece":  # keeps the cache of when it was the only one
        key["kind"] = config.name

    def build(folder: Path) -> None:
        train(_Paragraphs(corpus), **settings).save(str(folder / "tokenizer.json"))

    folder = cached("tokenizer", key, build)
    return Tokenizer(Backend.from_file(str(folder / "tokenizer.json")))


@dataclass(frozen=True)
class _Paragraphs:
    corpus: CorpusStore

    def __iter__(self) -> Iterator[str]:
        return (text for _, text in self.corpus.paragraphs("train"))
