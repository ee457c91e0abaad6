"""Evaluators: what is measured of a trained model beside its losses on the bank."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import RenderableType

from bertexp.data.config import DatasetConfig
from bertexp.data.corpora.corpus import CorpusStore
from bertexp.data.tokens.store import TokenStore
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.evaluation import EVALUATORS
from bertexp.evaluation.bank import Bank, predict
from bertexp.evaluation.config import EvaluationConfig
from bertexp.objectives.base import Evaluated
from bertexp.objectives.learner import Learner
from bertexp.objectives.task import Task


@dataclass(frozen=True)
class Source:
    """What an evaluator measures on.

    Attributes:
        config: ``evaluation.*``.
        tokens: of each split.
        max_length: the most tokens of an input, special ones included.
    """

    config: EvaluationConfig
    dataset: DatasetConfig
    corpus: CorpusStore
    tokenizer: Tokenizer
    tokens: Mapping[str, TokenStore]
    task: Task
    max_length: int


class Evaluator(ABC):
    """One measurement, at the end of a run and whenever its model is evaluated again.

    It is made before the model is: what it needs of the corpus is prepared here.
    """

    def __init__(self, source: Source) -> None:
        self.source = source

    @abstractmethod
    def measure(self, learner: Learner, device: torch.device) -> Iterator[tuple[str, float]]:
        """Yield the name (``eval/...``) and the value of each metric.

        The model may be left in evaluation mode.
        """

    def check(self, model: Any) -> None:  # noqa: B027  # most can measure any
        """Raise a ``UserError`` for a model that cannot be measured, before it is trained."""

    def fingerprints(self) -> dict[str, str]:
        """Return 16 digits by name that are equal where two runs were measured on the same."""
        return {}

    def answered(self) -> dict[str, int]:
        """Return of how many independent examples each accuracy is, by the metric's name."""
        return {}

    def yardsticks(self) -> dict[str, float]:
        """Return what can be reached without looking at the input, by the metric's name."""
        return {}

    def details(self) -> dict[str, Any]:
        """Return what was measured beside the metrics, for ``summary.json``."""
        return {}

    def shown(self) -> list[RenderableType]:
        """Return these details as the terminal shows them."""
        return []

    def draw(self, folder: Path) -> list[Path]:
        """Draw them in a run's folder; returns the pictures."""
        return []


@dataclass(frozen=True)
class Evaluation:
    """What was measured; ``predictions`` are on the bank."""

    predictions: list[Evaluated]
    metrics: dict[str, float]


def prepare_evaluators(source: Source) -> list[Evaluator]:
    """Return the evaluators of ``evaluation.evaluators``, with what they measure on."""
    return [EVALUATORS[name](source) for name in source.config.evaluators]


def evaluate_fully(
    learner: Learner, bank: Bank, evaluators: Sequence[Evaluator], device: torch.device
) -> Evaluation:
    """Evaluate on the bank, then by each evaluator."""
    predictions = predict(learner, bank, device)
    metrics = bank.metrics(predictions)
    for evaluator in evaluators:
        metrics |= evaluator.measure(learner, device)
    return Evaluation(predictions, metrics)
