"""Heads: what a model predicts with, and their losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn
from torch.nn import functional

from bertexp.families.base import Family
from bertexp.objectives.batch import Batch

if TYPE_CHECKING:
    from bertexp.objectives.learner import Learner


class Head(ABC):
    """What a model predicts with its hidden states, and the loss of that."""

    # Of its target in a batch, and of its loss.
    name: ClassVar[str]
    # What of a model it needs: "masked" (over the vocabulary), "pair" or "label"; None for a head
    # of its own.
    head: ClassVar[str | None]
    # Of what it trains beside the model, what is exported with it; all is in checkpoints.
    exported: ClassVar[tuple[str, ...]] = ()
    # For the weights of what it trains beside the model.
    seed: int = 0

    @property
    def losses_weights(self) -> dict[str, float]:
        """Its losses by name, and what the mean of each counts for in that of the objective."""
        return {self.name: 1.0}

    def build(self, family: Family) -> nn.Module | None:
        """Return what is trained beside the model, from the global generator; None for nothing.

        It is saved in checkpoints and found in ``Learner.own`` under the objective's name.
        """
        return None

    @abstractmethod
    def logits(self, learner: Learner, hidden_MD: Tensor) -> Tensor:
        """Return the head's output for hidden states, shape (predictions, classes)."""

    def loss(self, learner: Learner, hidden_MD: Tensor, labels_N: Tensor) -> Tensor:
        """Return the loss in nats, summed over N predictions, shape ().

        Args:
            learner: whose head it is.
            hidden_MD: hidden states where something is predicted; those after the first N are
                there to fill up.
            labels_N: the right answers.
        """
        logits_NC = self.logits(learner, hidden_MD)[: len(labels_N)].float()
        return functional.cross_entropy(logits_NC, labels_N, reduction="sum")

    def losses(
        self, learner: Learner, batch: Batch, encoded: Callable[[], Tensor]
    ) -> dict[str, Tensor]:
        """Return the summed losses by name, each over as many predictions as its target has.

        Args:
            learner: the model; ``learner.encode`` reads another input than the batch's.
            batch: what is read and predicted.
            encoded: gives the hidden states of the batch at ``slots_U``, computed once for all.
        """
        target = batch.targets[self.name]
        return {self.name: self.loss(learner, encoded()[target.used], target.labels_N)}

    @abstractmethod
    def products(self, learner: Learner, batch: Batch) -> float:
        """Return the multiply-adds on a batch beside those of encoding it."""
