"""Byte-level BPE and Unigram: how text is normalised and parted, and how each is trained."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from itertools import chain

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from bertexp.data.tokens.characters import (
    alphabet_size,
    count_characters,
    in_chunks,
    needs_accents,
    normalized,
)
from bertexp.data.tokens.spelling import SPACE
from bertexp.data.tokens.wordpiece import SPECIAL_TOKENS

# Decimals of a piece's score, a logarithm of its probability.
DECIMALS = 4
# By which the trainer parts the scores of characters that it must not leave out.
_STEP = 1e-4
# Runs of digits and of signs, with the space before them: no piece has letters beside them, as in
# SentencePiece, which parts scripts and numbers.
_NO_LETTERS = rf"{SPACE}?\p{{N}}+|{SPACE}?[^\p{{L}}\p{{M}}\p{{N}}{SPACE}]+"

# Letters, digits or signs at the beginning of what is between spaces.
_WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]+")
# Characters of the longest piece, of which one is the space.
_LONGEST = 16


def train_bpe(
    texts: Iterable[str], vocab_size: int, lowercase: bool, strip_accents: bool | None = None
) -> Backend:
    """Train a byte-level BPE (Radford et al. 2019), which knows every text.

    Words are parted as in GPT-2, RoBERTa and ModernBERT. A text's first word is as any other: it
    has a space before it.
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
    backend.train_from_iterator(in_chunks(texts), trainer)
    return backend


def train_unigram(
    texts: Iterable[str], vocab_size: int, lowercase: bool, strip_accents: bool | None = None
) -> Backend:
    """Train a Unigram language model of pieces (Kudo 2018), as SentencePiece has it.

    Characters that are too rare for the alphabet are [UNK]; there are no pieces of single bytes,
    as there are none in ALBERT, XLM-R and DeBERTa: 256 of them are much of a small vocabulary.
    The texts are gone through three times.
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
    # The trainer has all characters of its text in the vocabulary: rare ones part words here.
    known = (text.translate(rare) for text in chain(texts, _doubled_words(texts)))
    backend.train_from_iterator(in_chunks(known), trainer)
    pieces = json.loads(backend.to_str())["model"]["vocab"][len(SPECIAL_TOKENS) :]
    vocabulary = [(token, 0.0) for token in SPECIAL_TOKENS]
    vocabulary += _settled(dict(pieces))
    return _unigram_backend(vocabulary, lowercase, strip_accents)


def _doubled_words(texts: Iterable[str]) -> list[str]:
    """Return each word that occurs twice or more, written twice without a space.

    The trainer begins with the strings that occur in several different words, so that a whole word
    would be a piece only if it is a part of another one too.
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
    """Return pieces and scores that are the same in every process, the likeliest first.

    The trainer adds up floats in the order of a hash table and of its threads, so that the last
    digits differ. Characters that it would have left out get the least score and, in the order of
    a hash table, small steps above it.
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
    """Return spaces for the characters that are not in the alphabet, by code point."""
    counts = normalized(written, normalizer)
    size = alphabet_size(counts, {character: [character] for character in counts}, vocab_size)
    alphabet = {*[*counts][:size]}
    return {
        ord(character): " "
        for character in written
        if not {*normalizer.normalize_str(character)} <= alphabet | {" "}
    }
