"""The differences between pre-training and fine-tuning; the rest is shared, see ``run``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from rich.console import RenderableType

from bertexp.config import RunConfig
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.objectives.base import Reference
from bertexp.objectives.head import Head
from bertexp.objectives.learner import Learner
from bertexp.tracking.base import SafeTracker
from bertexp.tracking.identity import NameParts
from bertexp.training.loop import Phase

R = TypeVar("R", bound=RunConfig)


@dataclass(frozen=True)
class Prepared:
    """The model, the data and what is known of them before training.

    Attributes:
        heads: those that are evaluated and exported.
        phases: the parts of the budget in order; most runs have one.
        fingerprints: of the contents of the data.
        reference: what is known of the metrics.
        facts: the lines of the plan that only this kind of experiment has, with ``model``.
        default_rate: the learning rate for this model, and the reason for it.
    """

    model: Any
    tokenizer: Tokenizer
    max_length: int
    heads: Sequence[Head]
    phases: Sequence[Phase]
    fingerprints: Mapping[str, Any]
    reference: Reference
    facts: Mapping[str, str]
    default_rate: tuple[float, str]

    @property
    def own_heads(self) -> frozenset[str] | None:
        """The model's heads that are exported; None for all, as no other phase has more."""
        own = frozenset(head.head for head in self.heads if head.head)
        others = {head.head for phase in self.phases for head in phase.heads if head.head}
        return own if others > own else None


@dataclass(frozen=True)
class Final:
    """The results of a run.

    Attributes:
        metrics: by name; ``eval/loss`` is among them.
        summary: further values for ``summary.json``.
        details: printed below the table of results, and ``samples`` below that.
        tables: columns and rows by name, for the tracker.
    """

    metrics: dict[str, float]
    summary: Mapping[str, Any] = field(default_factory=dict)
    details: Sequence[RenderableType] = ()
    samples: Sequence[RenderableType] = ()
    tables: Mapping[str, tuple[list[str], list[list[Any]]]] = field(default_factory=dict)
    predictions: Sequence[Path] = ()


class Experiment(ABC, Generic[R]):
    """A kind of run: how it prepares, evaluates and reports.

    With several processes, all of them call everything but ``describe`` and ``record``.

    Args:
        config: the whole configuration.

    Attributes:
        decides: the metric by which one model is better than another.
        exports_best: whether ``model/`` is the best model instead of the last.
        every: steps between two evaluations, None for none; set by ``prepare``.
        patience: evaluations without a better model after which training ends, None for never.
    """

    exports_best: ClassVar[bool] = False

    def __init__(self, config: R) -> None:
        self.config = config
        self.decides = "eval/loss"
        self.every: int | None = None
        self.patience: int | None = None

    @abstractmethod
    def identity(self) -> NameParts:
        """Return what the run's names are made of."""

    @abstractmethod
    def prepare(self, device: torch.device) -> Prepared:
        """Return the data and the model, the same in all processes.

        Raises:
            UserError: something that the configuration names cannot be read, or does not fit.
        """

    def describe(self, folder: Path, tracker: SafeTracker | None) -> None:
        """Record the data, and warn if they are not as configured."""

    @abstractmethod
    def evaluate(self, learner: Learner, device: torch.device) -> dict[str, float]:
        """Return the model's ``eval/*``; leaves it in evaluation mode."""

    def evaluate_untrained(self, learner: Learner, device: torch.device) -> dict[str, float]:
        """Return ``evaluate`` before the first step."""
        return self.evaluate(learner, device)

    @abstractmethod
    def conclude(self, learner: Learner, folder: Path, device: torch.device) -> Final:
        """Return the results; the first process writes its files."""

    def record(self, folder: Path, final: Final) -> None:
        """Record a finished run elsewhere than in its folder."""
