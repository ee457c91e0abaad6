"""WordPiece as BERT has it: how text is normalised and parted, and how a vocabulary is trained."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from bertexp.data.cache import cached
from bertexp.data.config import TokenizerConfig
from bertexp.data.corpora.corpus import CorpusStore
from bertexp.data.tokens.tokenizer import Tokenizer

FORMAT_VERSION = 3
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUATION = "##"
# More than this share of a corpus's letters make a script its own, and not foreign words.
FOREIGN = 0.01
# The last character of Latin, Greek and Cyrillic and of the accents that they take.
_LAST_WESTERN = 0x052F


# How many characters an alphabet has at least, if a quarter of the vocabulary is as many.
COMMONEST = 1000
# The share of a text that an alphabet is to cover, if it takes half of the vocabulary at most.
COVERED = 0.9995


def train_tokenizer(config: TokenizerConfig, corpus: CorpusStore) -> Tokenizer:
    """Return a tokenizer trained on the corpus's training documents, or the cached one."""
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
    return Tokenizer(Backend.from_file(str(folder / "tokenizer.json")))


@dataclass(frozen=True)
class _Paragraphs:
    corpus: CorpusStore

    def __iter__(self) -> Iterator[str]:
        for document in self.corpus.documents("train"):
            yield from document.paragraphs


def train_wordpiece(
    texts: Iterable[str], vocab_size: int, lowercase: bool, strip_accents: bool | None = None
) -> Backend:
    """Train a WordPiece vocabulary with BERT's normalisation and word boundaries.

    The same texts, which are gone through twice, give the same vocabulary in every process.
    """
    written: Counter[str] = Counter()
    for text in texts:
        written.update(text)
    if strip_accents is None and lowercase and needs_accents(written):
        strip_accents = False
    backend = bert_backend({}, lowercase, strip_accents)
    counts = _normalized(written, backend)
    pieces = {character: _pieces(character, backend) for character in counts}
    size = _alphabet_size(counts, pieces, vocab_size)
    alphabet = sorted([*pieces][:size])
    continuing = [piece for character in alphabet for piece in pieces[character][1:]]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        # The trainer numbers characters in the order of a hash table and breaks ties by these
        # numbers: given here, they are always the same.
        special_tokens=[*SPECIAL_TOKENS, *alphabet, *continuing],
        limit_alphabet=0,
        continuing_subword_prefix=CONTINUATION,
        show_progress=False,
    )
    backend.train_from_iterator(_in_chunks(texts), trainer)
    vocabulary = backend.get_vocab()
    # Chinese has no longer words to learn: the places that are left are for rarer characters.
    left = [piece for character in [*pieces][size:] for piece in pieces[character]]
    for piece in left[: vocab_size - len(vocabulary)]:
        vocabulary.setdefault(piece, len(vocabulary))
    # Built anew, or the characters would stay special and be cut out of any word.
    return bert_backend(vocabulary, lowercase, strip_accents)


def _pieces(character: str, backend: Backend) -> list[str]:
    # Of every Chinese character, BERT makes a word of its own.
    is_word = backend.normalizer.normalize_str(character) == f" {character} "
    return [character] if is_word else [character, CONTINUATION + character]


def _alphabet_size(counts: Counter[str], pieces: dict[str, list[str]], vocab_size: int) -> int:
    """Return how many of the commonest characters are in the alphabet; others become [UNK]."""
    covered = places = size = 0
    for character, count in counts.items():
        places += len(pieces[character])
        is_enough = covered >= COVERED * counts.total() or places > vocab_size // 2
        if is_enough and size >= min(COMMONEST, vocab_size // 4):
            break
        covered += count
        size += 1
    return size


def _normalized(written: Counter[str], backend: Backend) -> Counter[str]:
    counts: Counter[str] = Counter()
    for character, count in written.items():
        for each in backend.normalizer.normalize_str(character):
            counts[each] += count
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return Counter({character: count for character, count in ranked if not character.isspace()})


def needs_accents(counts: Mapping[str, int]) -> bool:
    """Whether stripping accents, as BERT does with case, would take a script's letters apart.

    What Latin, Greek and Cyrillic have on their letters can be left out. Elsewhere the same rule
    splits Hangul into its parts and drops Japanese voicing marks, and Thai and Indic vowels. A few
    foreign words change nothing.
    """
    letters = {character: count for character, count in counts.items() if character.isalpha()}
    marks = (count for mark, count in counts.items() if _is_mark(mark))
    apart = (count for letter, count in letters.items() if _comes_apart(letter))
    total = sum(letters.values())
    return sum(marks) + sum(apart) > FOREIGN * total


def _is_mark(character: str) -> bool:
    return unicodedata.category(character) == "Mn" and ord(character) > _LAST_WESTERN


def _comes_apart(letter: str) -> bool:
    parts = unicodedata.normalize("NFD", letter)
    return parts != letter and ord(parts[0]) > _LAST_WESTERN


def bert_backend(
    vocabulary: dict[str, int], lowercase: bool, strip_accents: bool | None = None
) -> Backend:
    backend = Backend(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(
        lowercase=lowercase, strip_accents=strip_accents
    )
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
