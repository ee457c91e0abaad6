"""Examples that are pairs of segments."""

from __future__ import annotations

import numpy as np
import torch

from bertexp.data.tokens.store import TokenStore
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.objectives.batch import Batch, use_first_position, written
from bertexp.objectives.config import TaskConfig
from bertexp.objectives.examples import Examples
from bertexp.pairs import NEXT, SEGMENTS, negative_shares
from bertexp.pairs.draw import PairDrawer
from bertexp.pairs.text import Text
from bertexp.validation import UserError


class PairExamples(Examples):
    """Pairs of segments, some of which follow each other, as they were written.

    Args:
        tokens: the split, cut into sentences.
        config: ``task.*``.
        tokenizer: for the ids of the special tokens.
        seed: the run's seed.
        name: of the objective that predicts whether the second follows.

    Attributes:
        drawer: what draws the pairs.

    Raises:
        UserError: the corpus has no such pairs.
    """

    def __init__(
        self,
        tokens: TokenStore,
        config: TaskConfig,
        tokenizer: Tokenizer,
        seed: int,
        name: str,
    ) -> None:
        self._text = Text(tokens)
        room = config.max_length - tokenizer.special_in_pair
        self.drawer = _drawer(self._text, config, config.segments, seed, room)
        self._pad_to, self._tokenizer, self._name = config.pad_to, tokenizer, name
        if len(self) < 2:
            raise _too_few(self._text, config, seed, room)

    def __len__(self) -> int:
        return len(self.drawer.sentences)

    def documents(self) -> np.ndarray:
        return self._text.document_of(self.drawer.sentences)

    def lengths(self, epoch: int) -> np.ndarray:
        pairs = self.drawer.pairs(epoch)
        return pairs.first_sizes + pairs.second_sizes + self._tokenizer.special_in_pair

    def strata(self, epoch: int) -> np.ndarray:
        return self.drawer.pairs(epoch).kinds

    def places(self, epoch: int, example_ids: np.ndarray) -> np.ndarray:
        """Return where in their paragraphs the segments begin, from 0 to 1, shape (batch, 2)."""
        pairs = self.drawer.pairs(epoch).of(example_ids)
        both = np.stack([pairs.first_sentences, pairs.second_sentences], axis=1)
        return self._text.place_in_paragraph(both)

    def shares(self, epoch: int) -> dict[str, float]:
        """Return which share of an epoch's pairs follow each other, and is of each negative."""
        counts = np.bincount(self.strata(epoch), minlength=len(self.drawer.kinds))
        assert self.drawer.kinds[0] == NEXT
        return dict(zip(self.drawer.kinds, (counts / len(self)).tolist(), strict=True))

    def batch(self, epoch: int, example_ids: np.ndarray) -> Batch:
        pairs = self.drawer.pairs(epoch).of(example_ids)
        tokens, tokenizer = self._text.tokens, self._tokenizer
        segments = (pairs.first_starts, pairs.first_sizes, pairs.second_starts, pairs.second_sizes)
        rows = [
            tokenizer.sequence(tokens[a : a + size_a], tokens[b : b + size_b])
            for a, size_a, b, size_b in zip(*segments, strict=True)
        ]
        # Only the closing token is behind the second segment.
        second_B = pairs.first_sizes + tokenizer.special_in_pair - 1
        batch = written(example_ids, rows, tokenizer.pad_id, self._pad_to, second_B)
        return use_first_position(batch, self._name, torch.from_numpy(pairs.labels))


def _drawer(text: Text, config: TaskConfig, segments: str, seed: int, room: int) -> PairDrawer:
    segmentation = SEGMENTS[segments](text, room, config.short_prob)
    shares = negative_shares(config.negatives)
    return PairDrawer(segmentation, shares, config.next_prob, config.dynamic, seed)


def _too_few(text: Text, config: TaskConfig, seed: int, room: int) -> UserError:
    """Return the error for a split without pairs: what it has, and which segments would do."""
    drawers = {name: _drawer(text, config, name, seed, room) for name in SEGMENTS.names()}
    found = {name: len(drawer.sentences) for name, drawer in drawers.items()}
    sizes = np.diff(text.paragraph_offsets)
    counts = [f"{n} with {size}" for size, n in enumerate(np.bincount(sizes)[1:4], 1) if n]
    if more := int((sizes > 3).sum()):
        counts.append(f"{more} with more")
    others = [f"task.segments={name} finds {n}" for name, n in found.items() if n > 1]
    advice = "other task.negatives or task.sentences, or longer documents, may give some"
    return UserError(
        f"task.segments={config.segments} with "
        f"task.negatives={', '.join(negative_shares(config.negatives))} finds "
        f"{found[config.segments]} pairs in {len(sizes)} paragraphs of a split (sentences in each: "
        f"{', '.join(counts)}), which are {len(text.document_offsets) - 1} documents; "
        f"{', '.join(others) or advice}."
    )
