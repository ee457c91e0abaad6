"""BERT's WordPiece: normalisation, word boundaries and training."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from bertexp.data.tokens.characters import (
    alphabet_size,
    count_characters,
    in_batches,
    needs_accents,
    normalized,
)
from bertexp.data.tokens.tokenizer import Roles

SPECIAL_TOKENS = tuple(Roles().tokens.values())
CONTINUATION = "##"


def train_wordpiece(
    texts: Iterable[str], vocab_size: int, lowercase: bool, strip_accents: bool | None = None
) -> Backend:
    """Train a WordPiece vocabulary with BERT's normalisation and word boundaries.

    The same texts, which are read twice, give the same vocabulary in every process.
    """
    written = count_characters(texts)
    if strip_accents is None and lowercase and needs_accents(written):
        strip_accents = False
    backend = bert_backend({}, lowercase, strip_accents)
    counts = normalized(written, backend.normalizer)
    pieces = {character: _pieces(character, backend) for character in counts}
    size = alphabet_size(counts, pieces, vocab_size)
    alphabet = sorted([*pieces][:size])
    continuing = [piece for character in alphabet for piece in pieces[character][1:]]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        # The trainer numbers characters in the order of a hash table and breaks ties by number;
        # listing them here fixes the numbers.
        special_tokens=[*SPECIAL_TOKENS, *alphabet, *continuing],
        limit_alphabet=0,
        continuing_subword_prefix=CONTINUATION,
        show_progress=False,
    )
    backend.train_from_iterator(in_batches(texts), trainer)
    vocabulary = backend.get_vocab()
    # In Chinese there are no longer words to learn: rarer characters fill the vocabulary.
    left = [piece for character in [*pieces][size:] for piece in pieces[character]]
    for piece in left[: vocab_size - len(vocabulary)]:
        vocabulary.setdefault(piece, len(vocabulary))
    # Rebuilt, since the characters would otherwise be special tokens and split words.
    return bert_backend(vocabulary, lowercase, strip_accents)


def _pieces(character: str, backend: Backend) -> list[str]:
    # BERT puts spaces around every Chinese character, which makes it a word.
    is_word = backend.normalizer.normalize_str(character) == f" {character} "
    return [character] if is_word else [character, CONTINUATION + character]


def bert_backend(
    vocabulary: dict[str, int], lowercase: bool, strip_accents: bool | None = None
) -> Backend:
    backend = Backend(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(
        lowercase=lowercase, strip_accents=strip_accents
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix=CONTINUATION)
    # "[MASK]" in a text is one token, not three.
    backend.add_special_tokens([token for token in SPECIAL_TOKENS if token in vocabulary])
    return backend
