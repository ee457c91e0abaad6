"""What a run has spent, and what happened since its last logged line."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from bertexp.tasks.base import Batch


@dataclass
class TrainState:
    """What has been spent so far.

    Attributes:
        step: optimizer steps.
        examples: sequences seen.
        tokens: tokens seen, padding not counted.
        predicted_tokens: masked-language-model predictions made.
        seconds: time spent training, evaluation not counted.
        flops: floating-point operations, see ``flops_per_batch``.
        loss_sum: the good steps' mean losses, added up to the last logged line.
        bad_steps: steps that were skipped, see ``BadSteps``.
    """

    step: int = 0
    examples: int = 0
    tokens: int = 0
    predicted_tokens: int = 0
    seconds: float = 0.0
    flops: float = 0.0
    loss_sum: float = 0.0
    bad_steps: int = 0

    @property
    def mean_loss(self) -> float:
        """The mean over all steps that were not skipped; NaN where there are none."""
        good = self.step - self.bad_steps
        return self.loss_sum / good if good else math.nan

    def add(self, batches: list[Batch], seconds: float, flops: float) -> None:
        """Count one step."""
        self.step += 1
        self.examples += sum(len(batch.example_ids) for batch in batches)
        self.tokens += sum(batch.tokens for batch in batches)
        self.predicted_tokens += sum(batch.predictions.get("mlm", 0) for batch in batches)
        self.seconds += seconds
        self.flops += flops


@dataclass
class Window:
    """Sums over the steps since the last logged line.

    The loss, and the number of steps that were not skipped, stay on their device until read.
    """

    loss: Tensor | float = 0.0
    good: Tensor | float = 0.0
    tokens: int = 0
    predicted: int = 0
    maskable: int = 0
    requested: float = 0.0
    helped: int = 0
    seconds: float = 0.0

    def add(self, loss: Tensor, good: Tensor, batches: list[Batch], seconds: float) -> None:
        """Count one step with its mean ``loss``, which is left out unless the step is ``good``."""
        self.loss = self.loss + loss.where(good, 0.0)
        self.good = self.good + good
        self.tokens += sum(batch.tokens for batch in batches)
        self.predicted += sum(batch.predictions.get("mlm", 0) for batch in batches)
        self.maskable += sum(batch.maskable for batch in batches)
        self.requested += sum(batch.mask_prob * batch.maskable for batch in batches)
        self.helped += sum(batch.helped for batch in batches)
        self.seconds += seconds

    def plain(self) -> dict[str, float]:
        """Return the sums as numbers from which ``Window(**plain)`` goes on."""
        return asdict(self) | {"loss": float(self.loss), "good": float(self.good)}

    def metrics(self) -> dict[str, float]:
        """Return ``train/*``: mean loss, real tokens a second, and what was masked.

        ``train/mask_prob`` is the mask rate that was asked for, ``train/masked_fraction`` the
        one that was realised, and ``train/helped`` the number of sequences that drew no
        prediction and were given one.
        """
        good = float(self.good)
        metrics = {
            "train/loss": float(self.loss) / good if good else math.nan,
            "train/tokens_per_second": self.tokens / self.seconds,
        }
        if self.maskable:
            metrics["train/mask_prob"] = self.requested / self.maskable
            metrics["train/masked_fraction"] = self.predicted / self.maskable
            metrics["train/helped"] = self.helped
        return metrics
