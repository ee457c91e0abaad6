"""A few of a model's answers, for people to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bertexp.evaluation.bank import Bank
from bertexp.models.objective import Objective
from bertexp.tasks.batch import Batch
from bertexp.tokens.tokenizer import WordPieceTokenizer


@dataclass(frozen=True)
class Guess:
    """What stood at a masked position and what the model thinks, likeliest first."""

    truth: str
    likeliest: list[tuple[str, float]]

    @property
    def is_right(self) -> bool:
        """Whether the likeliest token is what stood there."""
        return self.likeliest[0][0] == self.truth


@dataclass(frozen=True)
class MaskedSample:
    """A stretch of masked text: its tokens as the model saw them, and a guess for each mask."""

    tokens: list[str]
    guesses: list[Guess]

    @property
    def text(self) -> str:
        """The tokens with the pieces of each word put together."""
        return " ".join(self.tokens).replace(" ##", "")


@dataclass(frozen=True)
class PairSample:
    """A sentence pair, whether the second follows, and the probability the model gives that."""

    first: str
    second: str
    follows: bool
    probability: float

    @property
    def is_right(self) -> bool:
        """Whether the likelier answer is the true one."""
        return (self.probability > 0.5) == self.follows


@torch.no_grad()
def draw_samples(
    objective: Objective, bank: Bank, tokenizer: WordPieceTokenizer, device: torch.device
) -> list[MaskedSample | PairSample]:
    """Return the model's answers to some of the bank's questions."""
    objective.eval()
    samples: list[MaskedSample | PairSample] = []
    for name in bank.objectives:
        draw = _masked_samples if name == "mlm" else _pair_samples
        samples += draw(objective, bank.of(name)[0].shown.to(device), tokenizer)
    return samples


def sample_tables(
    samples: Sequence[MaskedSample | PairSample],
) -> dict[str, tuple[list[str], list[list[Any]]]]:
    """Return the answers as tables: head and rows, by name; a row a masked token or a pair."""
    masked = [sample for sample in samples if isinstance(sample, MaskedSample)]
    pairs = [sample for sample in samples if isinstance(sample, PairSample)]
    tables: dict[str, tuple[list[str], list[list[Any]]]] = {}
    if masked:
        tables["samples/masked"] = (
            ["text", "truth", "prediction", "probability", "right"],
            [
                [sample.text, guess.truth, *guess.likeliest[0], guess.is_right]
                for sample in masked
                for guess in sample.guesses
            ],
        )
    if pairs:
        tables["samples/pairs"] = (
            ["first", "second", "follows", "probability that it follows", "right"],
            [[s.first, s.second, s.follows, s.probability, s.is_right] for s in pairs],
        )
    return tables


def _masked_samples(
    objective: Objective,
    batch: Batch,
    tokenizer: WordPieceTokenizer,
    length: int = 24,
    top: int = 3,
) -> list[MaskedSample]:
    """Return a stretch of ``length`` tokens around the first mask of each example."""
    assert batch.positions_N is not None and batch.labels_N is not None
    # The table may have rows that no token has.
    own = slice(tokenizer.vocab_size)
    probabilities_NV = objective.logits(batch)["mlm"].float().softmax(-1)[:, own]
    rows, width = batch.input_ids_BL.shape
    samples = []
    for row in range(rows):
        inside = (batch.positions_N >= row * width + 1) & (batch.positions_N < (row + 1) * width)
        if not inside.any():  # a text of unknown words
            continue
        first = int(batch.positions_N[inside][0])
        start = max(row * width + 1, first - length // 4)
        end = min(start + length, (row + 1) * width)
        ids = batch.input_ids_BL.flatten()[start:end].tolist()
        shown = torch.nonzero((batch.positions_N >= start) & (batch.positions_N < end)).flatten()
        guesses = []
        for index in shown.tolist():
            best = probabilities_NV[index].topk(top)
            names = [tokenizer.tokens[token] for token in best.indices.tolist()]
            truth = tokenizer.tokens[int(batch.labels_N[index])]
            guesses.append(Guess(truth, list(zip(names, best.values.tolist(), strict=True))))
        seen = [tokenizer.tokens[token] for token in ids if token != tokenizer.pad_id]
        samples.append(MaskedSample(seen, guesses))
    return samples


def _pair_samples(
    objective: Objective, batch: Batch, tokenizer: WordPieceTokenizer
) -> list[PairSample]:
    """Return pairs with the model's answers."""
    assert batch.next_labels_B is not None
    follows_B = objective.logits(batch)["nsp"].float().softmax(-1)[:, 0]
    return [
        PairSample(*_segments(batch, row, tokenizer), bool(label == 0), float(probability))
        for row, (label, probability) in enumerate(zip(batch.next_labels_B, follows_B, strict=True))
    ]


def _segments(batch: Batch, row: int, tokenizer: WordPieceTokenizer) -> tuple[str, str]:
    assert batch.token_type_ids_BL is not None
    ids, segments = batch.input_ids_BL[row], batch.token_type_ids_BL[row]
    return (
        tokenizer.backend.decode(ids[segments == 0].tolist()),
        tokenizer.backend.decode(ids[segments == 1].tolist()),
    )
