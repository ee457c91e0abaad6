"""WordPiece as BERT has it: how text is normalised and parted, and how a vocabulary is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUATION = "##"


def train_wordpiece(texts: Iterable[str], vocab_size: int, lowercase: bool) -> Tokenizer:
    """Train a WordPiece vocabulary with BERT's normalisation and word boundaries.

    The same texts, which are gone through twice, give the same vocabulary in every process.
    """
    backend = bert_backend({}, lowercase)
    alphabet = _alphabet(texts, backend, size=min(1000, vocab_size // 4))
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        # The trainer numbers characters in the order of a hash table and breaks ties by these
        # numbers: given here, they are always the same.
        special_tokens=[*SPECIAL_TOKENS, *alphabet, *(CONTINUATION + c for c in alphabet)],
        limit_alphabet=0,
        continuing_subword_prefix=CONTINUATION,
        show_progress=False,
    )
    backend.train_from_iterator(_in_chunks(texts), trainer)
    # Built anew, or the characters would stay special and be cut out of any word.
    return bert_backend(backend.get_vocab(), lowercase)


def _alphabet(texts: Iterable[str], backend: Tokenizer, size: int) -> list[str]:
    """Return the ``size`` commonest characters; the others become [UNK], not tokens."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(backend.normalizer.normalize_str(text))
    ranked = sorted(counts, key=lambda character: (-counts[character], character))
    return sorted([character for character in ranked if not character.isspace()][:size])


def bert_backend(vocabulary: dict[str, int], lowercase: bool) -> Tokenizer:
    """Return a tokenizer that normalises and parts words as BERT does."""
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix=CONTINUATION)
    # In a text, "[MASK]" is the token and not three.
    backend.add_special_tokens([token for token in SPECIAL_TOKENS if token in vocabulary])
    return backend


def _in_chunks(texts: Iterable[str], size: int = 1024) -> Iterator[list[str]]:
    chunk: list[str] = []
    for text in texts:
        chunk.append(text)
        if len(chunk) == size:
            yield chunk
            chunk = []
    yield chunk
