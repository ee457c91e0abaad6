"""What every objective has: examples, a loss, and an evaluation that is the same for all runs."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from bertexp import draws
from bertexp.data.tokens.store import TokenStore
from bertexp.data.tokens.stream import TokenStream
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.masking.config import MaskingConfig
from bertexp.objectives.batch import Batch
from bertexp.objectives.config import BankConfig, TaskConfig
from bertexp.objectives.examples import BlockExamples, Examples, StreamedBlocks
from bertexp.objectives.head import Head
from bertexp.objectives.samples import Sample
from bertexp.validation import UserError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from bertexp.data.corpora.synthetic import Language

BANK_SEED = 20181011
BATCH_SIZE = 64
# Examples whose predictions people get to read.
SHOWN = 3


@dataclass(frozen=True)
class EvalSet:
    """Frozen batches of one objective under one condition.

    Attributes:
        condition: the mask rate, or the kind of negatives.
        weight: what it counts among those of the objective; 0 where it is only shown by itself.
        shown: a few of the same examples, for people to read.
        documents: the document of each validation example, by the example's number.
        slices: numbers of the slice that each prediction is in, over all batches, by the way in
            which predictions are divided; empty where they are not.
        baselines: what can be reached without a model, by the name of the metric.
    """

    objective: str
    condition: float | str
    weight: float
    batches: list[Batch]
    shown: Batch
    documents: np.ndarray
    slices: dict[str, np.ndarray] = field(default_factory=dict)
    baselines: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.condition if isinstance(self.condition, str) else f"{self.condition:g}"

    @property
    def labels(self) -> Tensor:
        return torch.cat([batch.targets[self.objective].labels_N for batch in self.batches])

    @property
    def fingerprint(self) -> str:
        """16 digits that change whenever an input or a label does."""
        digest = hashlib.blake2b(self.name.encode(), digest_size=8)
        for batch in self.batches:
            digest.update(batch.input_ids_BL.numpy().tobytes())
            digest.update(batch.targets[self.objective].labels_N.numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Evaluated:
    """A model's predictions on an ``EvalSet``: an entry for each, over all batches.

    Attributes:
        losses: in nats, ``float64``.
        hits: whether the likeliest answer is right.
    """

    of: EvalSet
    losses: np.ndarray
    hits: np.ndarray

    @property
    def loss(self) -> float:
        return float(self.losses.mean())

    @property
    def accuracy(self) -> float:
        return float(self.hits.mean())


class Objective(Head):
    """One thing that a model learns to predict.

    A task is one objective or several with weights. All of them predict on the same examples, which
    the first one that is made of sentences writes, or the first.

    Args:
        config: ``task.*``.
        tokenizer: what the tokens were cut with.
        masking: ``masking.*``.
        seed: the run's seed.
    """

    # What the metrics of its evaluation begin with.
    prefix: ClassVar[str]
    # Whether its examples are made of sentences, and not just of text.
    uses_sentences: ClassVar[bool] = False

    def __init__(
        self, config: TaskConfig, tokenizer: Tokenizer, masking: MaskingConfig, seed: int
    ) -> None:
        self.config, self.tokenizer = config, tokenizer
        self.masking, self.seed = masking, seed

    def write(self, tokens: TokenStore) -> Examples:
        """Return the examples that ``tokens`` give: by default blocks of text.

        Raises:
            UserError: they give none.
        """
        blocks = self._blocks(tokens)
        if len(blocks) == 0:
            raise UserError("The corpus has no tokens: choose another dataset or more documents.")
        return blocks

    def write_streamed(self, stream: TokenStream, count: int) -> Examples:
        """Return the blocks of a stream, of which ``count`` are an epoch."""
        return StreamedBlocks(stream, count, self._blocks)

    @property
    def block_tokens(self) -> int:
        """Tokens of a block, special ones not counted."""
        return self.config.max_length - self.tokenizer.special_in_sequence

    def _blocks(self, tokens: TokenStore) -> BlockExamples:
        return BlockExamples(tokens, self.config.max_length, self.config.pad_to, self.tokenizer)

    def mark(self, examples: Examples, tokens: TokenStore) -> Examples:
        """Return written examples, of whichever objective, with what is predicted on them."""
        return examples

    @abstractmethod
    def eval_sets(self, tokens: Mapping[str, TokenStore], config: BankConfig) -> list[EvalSet]:
        """Return what every run is evaluated on, whatever it trains on."""

    @abstractmethod
    def metrics(self, found: Sequence[Evaluated]) -> dict[str, float]:
        """Return the metrics of a model by name; among them ``<prefix>loss``."""

    def yardsticks(self, sets: Sequence[EvalSet]) -> dict[str, float]:
        """Return what can be reached without looking at the input, by the metric's name.

        The entropy of the labels is the least loss of any predictor that ignores the input, the
        share of the commonest one its best accuracy.
        """
        weights = np.array([one.weight for one in sets])
        shares = [torch.bincount(one.labels).double() / len(one.labels) for one in sets]
        entropies = [-torch.special.xlogy(share, share).sum().item() for share in shares]
        commonest = [share.max().item() for share in shares]
        return {
            f"{self.prefix}loss": float(np.average(entropies, weights=weights)),
            f"{self.prefix}accuracy": float(np.average(commonest, weights=weights)),
        }

    def answered(self, sets: Sequence[EvalSet]) -> dict[str, int]:
        """Return how many independent examples each accuracy is of, by the metric's name.

        Nothing for predictions of which several are of one document.
        """
        return {}

    def optimum(self, sets: Sequence[EvalSet], language: Language) -> dict[str, float]:
        """Return the least losses that any model can have on a made-up language; {} if unknown."""
        return {}

    def details(
        self, metrics: Mapping[str, float], answered: Mapping[str, int]
    ) -> list[RenderableType]:
        """Return tables of those metrics that the table of results leaves out."""
        return []

    @abstractmethod
    def samples(self, logits_NC: Tensor, batch: Batch) -> Iterable[Sample]:
        """Return predictions on a batch for people to read."""


def shuffled(count: int) -> np.ndarray:
    """Return the numbers of ``count`` examples in the bank's order, always the same."""
    return np.argsort(draws.combine(draws.key("bank", BANK_SEED, 0), np.arange(count)))


def cut(examples: Examples, chosen: np.ndarray) -> tuple[list[Batch], Batch]:
    """Return batches of the chosen examples, those of a length together, and one to be shown."""
    by_length = chosen[np.argsort(examples.lengths(0)[chosen], kind="stable")]
    parts = np.split(by_length, range(BATCH_SIZE, len(by_length), BATCH_SIZE))
    shown = parts[len(parts) // 2][:SHOWN]
    return [examples.batch(0, part) for part in parts], examples.batch(0, shown)
