"""Heads, which predict from hidden states, and their losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional

from bertexp.families.base import Family
from bertexp.families.inputs import Inputs
from bertexp.masking.config import AdaptiveKeys
from bertexp.objectives.batch import Batch

if TYPE_CHECKING:
    from bertexp.objectives.learner import Learner


class Head(ABC):
    """What a model predicts from its hidden states, and the loss."""

    # The name of its target in a batch, and of its loss.
    name: ClassVar[str]
    # The model's head that it uses: "masked" (over the vocabulary), "pair" or "label"; None if it
    # builds its own.
    head: ClassVar[str | None]
    # The modules beside the model that are exported with it; checkpoints have all of them.
    exported: ClassVar[tuple[str, ...]] = ()
    # Whether it predicts from states of its own, see ``encode``, instead of the model's.
    encodes: ClassVar[bool] = False
    # Whether a step can be recorded as a CUDA graph: its losses depend on tensors alone, are
    # weighted by the target, and nothing reads values back from the GPU.
    is_recordable: ClassVar[bool] = False
    # The seed of the weights of modules beside the model.
    seed: int = 0

    @property
    def losses_weights(self) -> dict[str, float]:
        """The weight of each of its losses in the objective's, by name.

        A loss called ``<target>/<part>`` is only logged, and its weight is 0.
        """
        return {self.name: 1.0}

    @property
    def is_causal(self) -> bool:
        """Whether attention is causal wherever it predicts."""
        return False

    def build(self, family: Family) -> nn.Module | None:
        """Return a module to train beside the model, drawn from the global generator, or None.

        Checkpoints save it, and ``Learner.own`` holds it under the objective's name.
        """
        return None

    def models(self, module: Any) -> dict[str, Any]:
        """Return models of ``transformers`` in its module that are exported, by their folder."""
        return {}

    @property
    def facts(self) -> dict[str, str]:
        """What the plan of a run and a model card state about it, by name."""
        return {}

    def usage(self, model_type: str) -> tuple[str, str] | None:
        """Return how to predict with an exported model: the Hub's tag, and lines of Python.

        The lines find ``folder``, ``tokenizer`` and ``model``. None if the model's heads predict as
        in ``transformers``.
        """
        return None

    def encode(self, learner: Learner, inputs: Inputs) -> Tensor:
        """Return the states from which it predicts at used positions, shape (used, hidden)."""
        return learner.family.encode(inputs)

    def target_logits(
        self, learner: Learner, batch: Batch, encoded: Callable[[], Tensor]
    ) -> dict[str, Tensor]:
        """Return the logits of each of its targets in a batch of an evaluation, see ``losses``."""
        target = batch.targets[self.name]
        return {self.name: self.logits(learner, encoded()[target.used][: len(target)])}

    @property
    def follows(self) -> AdaptiveKeys | None:
        """How the rates of tokens follow its losses, None if they do not."""
        return None

    @abstractmethod
    def logits(self, learner: Learner, hidden_MD: Tensor) -> Tensor:
        """Return the head's output for hidden states, shape (predictions, classes)."""

    def loss(self, learner: Learner, hidden_MD: Tensor, labels_N: Tensor) -> Tensor:
        """Return the loss in nats, summed over N predictions, shape ().

        Hidden states after the first N are padding.
        """
        logits_NC = self.logits(learner, hidden_MD)[: len(labels_N)].float()
        return functional.cross_entropy(logits_NC, labels_N, reduction="sum")

    def losses(
        self, learner: Learner, batch: Batch, encoded: Callable[[], Tensor]
    ) -> dict[str, Tensor]:
        """Return the losses by name, each summed over the predictions of its target.

        Args:
            encoded: returns the hidden states at the batch's ``slots_U``, see ``encodes``: its own,
                or the model's, which are computed once for all heads.
        """
        target = batch.targets[self.name]
        return {self.name: self.loss(learner, encoded()[target.used], target.labels_N)}

    @abstractmethod
    def products(self, learner: Learner, batch: Batch) -> float:
        """Return the multiply-adds of a batch, except those of encoding it."""
