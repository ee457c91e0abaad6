"""Evaluators: measurements of a trained model besides its losses on the bank."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import RenderableType

from bertexp.data.cache import cached_json
from bertexp.data.config import DatasetConfig
from bertexp.data.corpora.corpus import CorpusStore
from bertexp.data.corpora.synthetic import Language
from bertexp.data.tokens.store import TokenStore
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.evaluation import EVALUATORS
from bertexp.evaluation.bank import Bank, predict
from bertexp.evaluation.config import EvaluationConfig
from bertexp.families.build import untrained
from bertexp.objectives.base import Evaluated, Reference, batched, shuffled
from bertexp.objectives.batch import Batch
from bertexp.objectives.examples import BlockExamples, MaskedExamples
from bertexp.objectives.learner import Learner
from bertexp.objectives.mlm import bank_masker
from bertexp.objectives.task import Task


@dataclass(frozen=True)
class Source:
    """The data of an evaluator.

    Attributes:
        config: ``evaluation.*``.
        tokens: of each split.
        language: that the corpus is made up from; None for other corpora.
        max_length: the most tokens of an input, including special ones.
        trained: about how many tokens the training has; None if that is unknown.
        autocast: the type of matrix products in training; None for float32.
    """

    config: EvaluationConfig
    dataset: DatasetConfig
    corpus: CorpusStore
    tokenizer: Tokenizer
    tokens: Mapping[str, TokenStore]
    task: Task
    language: Language | None
    max_length: int
    trained: float | None
    autocast: torch.dtype | None

    def masked(self, name: str, rate: float, part: slice) -> list[Batch]:
        """Return batches of validation text with a share of the tokens as masks, always the same.

        Args:
            name: of the target.
            part: of the examples, which are in the bank's order.
        """
        tokens = self.tokens["validation"]
        masker = bank_masker(self.tokenizer, tokens, rate)
        blocks = BlockExamples(tokens, self.max_length, None, self.tokenizer)
        examples = MaskedExamples(blocks, masker, name)
        chosen = shuffled(len(examples))[part]
        return [*batched(examples, chosen)] if len(chosen) else []


class Evaluator(ABC):
    """A measurement at the end of a run, and whenever its model is evaluated again.

    It is created before the model, and prepares the data that it needs.

    Attributes:
        reference: what is known of its metrics.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.reference = Reference()

    @abstractmethod
    def measure(self, learner: Learner, device: torch.device) -> Iterator[tuple[str, float]]:
        """Yield the name (``eval/...``) and the value of each metric.

        The model may be left in evaluation mode.
        """

    def check(self, model: Any) -> None:  # noqa: B027  # most can measure any
        """Raise a ``UserError`` for a model that cannot be measured, before it is trained."""

    @property
    def scored(self) -> str:
        """The number of texts that it scores token by token, for the plan; empty for others."""
        return ""

    def summary(self) -> dict[str, Any]:
        """Return results besides the metrics, for ``summary.json``."""
        return {}

    def details(self) -> list[RenderableType]:
        """Return results besides the metrics, for the terminal."""
        return []

    def tables(self) -> dict[str, tuple[list[str], list[list[Any]]]]:
        """Return tables for trackers: columns and rows by name."""
        return {}

    def of_untrained(
        self, learner: Learner, key: Mapping[str, object], measure: Callable[[Any], object]
    ) -> Any:
        """Return the JSON value that ``measure`` has for the model with initial weights, cached.

        Args:
            key: what it depends on besides the architecture, the tokenizer and the length.
        """
        source = self.source
        every = {
            **key,
            "model": learner.family.config.to_dict(),
            "tokenizer": source.tokenizer.fingerprint,
            "max_length": source.max_length,
        }
        return cached_json("untrained", every, lambda: measure(untrained(learner.model)))

    def draw(self, beginning: Path) -> None:  # noqa: B027  # most have no picture
        """Draw pictures of its results, if it has any, into files named ``beginning-*``."""


@dataclass(frozen=True)
class Evaluation:
    """The results of an evaluation; ``predictions`` are those on the bank."""

    predictions: list[Evaluated]
    metrics: dict[str, float]


def prepare_evaluators(source: Source) -> list[Evaluator]:
    """Return the evaluators that the configuration selects, with their data prepared."""
    return [EVALUATORS[name](source) for name in source.config.measured]


def evaluate_fully(
    learner: Learner, bank: Bank, evaluators: Sequence[Evaluator], device: torch.device
) -> Evaluation:
    predictions = predict(learner, bank, device)
    metrics = bank.metrics(predictions)
    for evaluator in evaluators:
        metrics |= evaluator.measure(learner, device)
    return Evaluation(predictions, metrics)
