"""What the masking tests share: a small corpus of made-up words, and maskers on it."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bertexp.data.tokens.store import TokenStore
from bertexp.masking.config import MaskingConfig, ReplaceConfig
from bertexp.masking.masker import Masker
from bertexp.masking.strategies import Context
from bertexp.objectives.examples import BlockExamples, MaskedExamples
from bertexp.registry import with_own_keys

PAD, UNK, CLS, SEP, MASK = range(5)
SIZE = 60
# The last third of the ids goes on with a word.
FIRST_PIECE = 40
BERT = ReplaceConfig(mask=0.8, random=0.1, keep=0.1)


class Lab:
    """A vocabulary, a corpus in which some words go together, and maskers on them."""

    is_special = np.arange(SIZE) < 5
    is_piece = np.arange(SIZE) >= FIRST_PIECE
    tokenizer: Any = SimpleNamespace(
        is_special_V=is_special,
        knows_words=True,
        begins_words=lambda ids, opens: (ids < FIRST_PIECE) | opens,
        mask_id=MASK,
        pad_id=PAD,
        special_in_sequence=2,
        sequence=lambda ids: np.array([CLS, *ids, SEP]),
    )
    size, mask_id, unk_id = SIZE, MASK, UNK

    def __init__(self) -> None:
        self.texts = self.draw(200, 100, seed=7)
        self.corpus = self.store(self.texts)

    def draw(self, count: int, length: int, seed: int) -> list[list[int]]:
        """Return texts in which some ids are frequent and some follow each other often."""
        generator = np.random.default_rng(seed)
        ids = 5 + np.minimum(generator.geometric(0.08, (count, length)) - 1, SIZE - 6)
        for run in ([10, 11, 12], [20, 21]):
            for row, column in zip(*np.nonzero(generator.random(ids.shape) < 0.03), strict=True):
                ids[row, column : column + len(run)] = run[: length - column]
        ids[generator.random(ids.shape) < 0.01] = UNK
        return ids.tolist()

    def store(self, texts: list[list[int]]) -> TokenStore:
        """Return texts as documents of one sentence each."""
        offsets = np.cumsum([0, *map(len, texts)])
        units = np.arange(len(offsets))
        tokens = np.array([token for text in texts for token in text], dtype=np.uint16)
        return TokenStore(tokens, offsets, units, units, f"test-{hash(tokens.tobytes())}")

    def blocks(self, masker: Masker, max_length: int) -> MaskedExamples:
        """Return the corpus in masked blocks."""
        blocks = BlockExamples(self.corpus, max_length, None, self.tokenizer)
        return MaskedExamples(blocks, masker, "mlm")

    def masker(self, strategy: str, prob: float = 0.15, seed: int = 0, **settings: Any) -> Masker:
        """Return a masker of a strategy on the corpus."""
        settings = {"replace": BERT} | settings
        config = with_own_keys(MaskingConfig, "masking")(prob=prob, strategy=strategy, **settings)
        return Masker(Context(config, self.tokenizer, self.corpus), seed)

    def padded(self, rows: list[list[int]], width: int = 0) -> np.ndarray:
        """Return rows between [CLS] and [SEP], padded."""
        width = max([width, *(len(row) + 2 for row in rows)])
        full = [[CLS, *row, SEP] + [PAD] * (width - len(row) - 2) for row in rows]
        return np.array(full, dtype=np.int64)

    def cut(self, texts: list[list[int]], length: int) -> list[list[int]]:
        """Return texts cut into pieces of up to ``length`` tokens."""
        return [text[i : i + length] for text in texts for i in range(0, len(text), length)]


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERTEXP_CACHE", str(tmp_path_factory.mktemp("masking")))
        yield Lab()
