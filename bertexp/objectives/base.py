"""The base of objectives: examples, a loss, and an evaluation that all runs share."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from rich.console import RenderableType
from torch import Tensor

from bertexp import draws
from bertexp.data.corpora.synthetic import Language
from bertexp.data.tokens.store import TokenStore
from bertexp.data.tokens.stream import TokenStream
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.masking.config import MaskingConfig
from bertexp.objectives.batch import Batch
from bertexp.objectives.config import BankConfig, TaskConfig
from bertexp.objectives.examples import Examples, StreamedBlocks
from bertexp.objectives.formats import write_blocks
from bertexp.objectives.head import Head
from bertexp.objectives.samples import Sample

BANK_SEED = 20181011
BATCH_SIZE = 64
# Examples whose predictions are shown to people.
SHOWN = 3


@dataclass(frozen=True)
class Reference:
    """The scale on which metrics are read, known before a model is.

    Attributes:
        yardsticks: by metric, the value of the best prediction that ignores the input.
        optimum: by metric, the best value that any model can reach; only on a made-up language.
        answered: by accuracy, its number of independent examples; accuracies with several
            predictions from one document are left out.
        fingerprints: 16 digits by name, equal for two runs if they were measured on the same data.
    """

    yardsticks: dict[str, float] = field(default_factory=dict)
    optimum: dict[str, float] = field(default_factory=dict)
    answered: dict[str, int] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)

    def __or__(self, other: Reference) -> Reference:
        return Reference(
            self.yardsticks | other.yardsticks,
            self.optimum | other.optimum,
            self.answered | other.answered,
            self.fingerprints | other.fingerprints,
        )


@dataclass(frozen=True)
class EvalSet:
    """Frozen batches of one objective under one condition.

    Attributes:
        condition: the mask rate, or the kind of negatives.
        weight: its weight in the mean over the objective's sets; 0 if it is only shown separately.
        shown: a few of the same examples, for people to read.
        documents: the document of each validation example, by the example's number.
        slices: the number of each prediction's slice, over all batches, by kind of slices; may be
            empty.
        baselines: by metric, values that need no model.
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
        """16 digits that change with any input or label."""
        digest = hashlib.blake2b(self.name.encode(), digest_size=8)
        for batch in self.batches:
            digest.update(batch.input_ids_BL.numpy().tobytes())
            digest.update(batch.targets[self.objective].labels_N.numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Evaluated:
    """A model's predictions on an ``EvalSet``, with an entry for each, over all batches.

    Attributes:
        losses: in nats, ``float64``.
        hits: whether the likeliest class is the label.
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
    the first one that needs sentences writes, or else the first.
    """

    # The prefix of its metrics, and of further ones (a generator's, causal reading), if any.
    prefix: ClassVar[str]
    second_prefix: ClassVar[str | None] = None
    # Whether it trains a model to fill any number of masks, and so to write text.
    writes: ClassVar[bool] = False
    # Whether its examples need text that is cut into sentences.
    uses_sentences: ClassVar[bool] = False
    # Whether no other objective can be trained with it.
    is_alone: ClassVar[bool] = False
    # Whether positions in its examples attend to only some of the others.
    limits_attention: ClassVar[bool] = False
    # Whether the model reads mask tokens.
    reads_masks: ClassVar[bool] = False

    def __init__(
        self, config: TaskConfig, tokenizer: Tokenizer, masking: MaskingConfig, seed: int
    ) -> None:
        self.config, self.tokenizer = config, tokenizer
        self.masking, self.seed = masking, seed

    @property
    def continues(self) -> bool:
        """Whether it trains a model to predict a text's next token."""
        return False

    @classmethod
    def check(cls, config: Any, task: str, is_compiled: bool) -> None:
        """Raise a ``UserError`` if it cannot train a model of this configuration.

        Args:
            config: of ``transformers``.
            task: what needs it, for the error message.
            is_compiled: whether layers are compiled for a few lengths.
        """

    def write(self, tokens: TokenStore) -> Examples:
        """Return the examples of ``tokens``, by default blocks of text.

        Raises:
            UserError: there are none.
        """
        return self._blocks(tokens)

    def write_streamed(self, stream: TokenStream, count: int) -> Examples:
        """Return the blocks of a stream, with ``count`` of them in an epoch."""
        return StreamedBlocks(stream, count, self._blocks)

    @property
    def block_tokens(self) -> int:
        """The tokens of a block, without special ones."""
        return self.config.max_length - self.tokenizer.special_in_sequence

    def _blocks(self, tokens: TokenStore) -> Examples:
        return write_blocks(tokens, self.config, self.tokenizer, self.seed)

    def bank_text(self, tokens: TokenStore) -> Examples:
        """Return the examples of ``tokens`` as banks freeze them: unpadded, under one seed."""
        plain = replace(self.config, pad_to=None)
        return type(self)(plain, self.tokenizer, self.masking, BANK_SEED).write(tokens)

    def mark(self, examples: Examples, tokens: TokenStore) -> Examples:
        """Return the written examples of any objective with this one's targets."""
        return examples

    @abstractmethod
    def eval_sets(self, tokens: Mapping[str, TokenStore], config: BankConfig) -> list[EvalSet]:
        """Return the sets that every run is evaluated on, whatever its training."""

    @abstractmethod
    def metrics(self, found: Sequence[Evaluated]) -> dict[str, float]:
        """Return the metrics of a model by name, with ``<prefix>loss`` among them."""

    def reference(self, sets: Sequence[EvalSet], language: Language | None) -> Reference:
        """Return what is known of its metrics on these sets, all but the fingerprints.

        The yardstick of a loss is the entropy of the labels, that of an accuracy the share of the
        most common label. The optimum needs the ``language`` that the text is made up from.
        """
        weights = np.array([one.weight for one in sets])
        shares = [torch.bincount(one.labels).double() / len(one.labels) for one in sets]
        entropies = [-torch.special.xlogy(share, share).sum().item() for share in shares]
        commonest = [share.max().item() for share in shares]
        yardsticks = {
            f"{self.prefix}loss": float(np.average(entropies, weights=weights)),
            f"{self.prefix}accuracy": float(np.average(commonest, weights=weights)),
        }
        return Reference(yardsticks)

    def details(
        self, metrics: Mapping[str, float], answered: Mapping[str, int]
    ) -> list[RenderableType]:
        """Return tables of the metrics that the table of results leaves out."""
        return []

    @abstractmethod
    def samples(self, logits_NC: Tensor, batch: Batch) -> Iterable[Sample]:
        """Return predictions on a batch for people to read."""


def shuffled(count: int) -> np.ndarray:
    """Return the numbers of ``count`` examples in the bank's order, always the same."""
    return draws.permutation("bank", BANK_SEED, 0, count)


def freeze(
    examples: Examples, chosen: np.ndarray, objective: str, condition: float | str, weight: float
) -> EvalSet:
    batches = [*batched(examples, chosen)]
    shown = examples.batch(0, batches[len(batches) // 2].example_ids[:SHOWN])
    return EvalSet(objective, condition, weight, batches, shown, examples.documents())


def batched(examples: Examples, chosen: np.ndarray) -> Iterator[Batch]:
    """Yield batches of the chosen examples, those of a length together."""
    by_length = chosen[np.argsort(examples.lengths(0)[chosen], kind="stable")]
    for part in np.split(by_length, range(BATCH_SIZE, len(by_length), BATCH_SIZE)):
        yield examples.batch(0, part)
