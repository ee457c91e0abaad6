"""What pre-training and fine-tuning differ in; all else is one run, see ``run``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from rich.console import RenderableType

from bertexp.config import RunConfig
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.objectives.examples import Examples
from bertexp.objectives.head import Head
from bertexp.objectives.learner import Learner
from bertexp.tracking.base import SafeTracker

R = TypeVar("R", bound=RunConfig)


@dataclass(frozen=True)
class Prepared:
    """What a run trains, and on what.

    Attributes:
        weights: what the mean loss of each head is multiplied with.
        fingerprints: of the contents of the data.
        yardsticks: what can be reached without looking at the input, by the metric's name.
        answered: how many independent examples each accuracy is of, by the metric's name.
        facts: the lines of the plan that are of this experiment alone, ``model`` among them.
        default_rate: the learning rate for this model, and the reason for it.
    """

    model: Any
    tokenizer: Tokenizer
    max_length: int
    heads: Sequence[Head]
    weights: Mapping[str, float]
    examples: Examples
    fingerprints: Mapping[str, Any]
    yardsticks: Mapping[str, float]
    answered: Mapping[str, int]
    facts: Mapping[str, str]
    default_rate: tuple[float, str]


@dataclass(frozen=True)
class Final:
    """What is known of the model at the end of a run.

    Attributes:
        metrics: by name; ``eval/loss`` is among them.
        summary: further values for ``summary.json``.
        optimum: the least losses that any model can have, where they are known.
        details: printed below the table of results, and ``samples`` below that.
        tables: for the tracker: columns and rows, by name.
        pictures: for the tracker: files in the run's folder.
    """

    metrics: dict[str, float]
    summary: Mapping[str, Any] = field(default_factory=dict)
    optimum: Mapping[str, float] = field(default_factory=dict)
    details: Sequence[RenderableType] = ()
    samples: Sequence[RenderableType] = ()
    tables: Mapping[str, tuple[list[str], list[list[Any]]]] = field(default_factory=dict)
    pictures: Sequence[Path] = ()
    predictions: Sequence[Path] = ()


class Experiment(ABC, Generic[R]):
    """One kind of run: what it prepares, how it evaluates, what it reports.

    Where several processes run it, all of them call everything but ``describe`` and ``record``.

    Args:
        config: the whole configuration.

    Attributes:
        decides: the metric by which one model is better than another.
        exports_best: whether ``model/`` is the best model, and not the last.
        every: steps between two evaluations, None for none; known once it is prepared.
        patience: evaluations without a better model after which training ends, None for never.
        mask_rate: at a share of the budget that is spent; None where nothing is masked.
    """

    exports_best: ClassVar[bool] = False

    def __init__(self, config: R) -> None:
        self.config = config
        self.decides = "eval/loss"
        self.every: int | None = None
        self.patience: int | None = None
        self.mask_rate: Callable[[float], float] | None = None

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return what trackers know such a run by, see ``tracking.identify``."""

    @abstractmethod
    def prepare(self, device: torch.device) -> Prepared:
        """Return the data and the model, the same in all processes.

        Raises:
            UserError: what the configuration names cannot be read, or does not fit.
        """

    def describe(self, folder: Path, tracker: SafeTracker | None) -> None:
        """Record what the data are, and warn where they are not what was configured."""

    @abstractmethod
    def evaluate(self, learner: Learner, device: torch.device) -> dict[str, float]:
        """Return ``eval/*`` of the model as it is, leaving it in evaluation mode."""

    @abstractmethod
    def conclude(self, learner: Learner, folder: Path, device: torch.device) -> Final:
        """Return what is measured at the end; the first process writes what belongs to it."""

    def record(self, folder: Path, final: Final) -> None:
        """Write what is known of a finished run elsewhere than in its folder."""
