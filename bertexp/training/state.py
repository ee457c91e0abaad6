"""What a run has spent, and the sums since its last logged line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from bertexp import group

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from bertexp.objectives.batch import Batch


@dataclass(frozen=True)
class Tally:
    """Counts of a step, over all its batches.

    Attributes:
        tokens, positions: without and with padding.
        predicted, maskable, masked, empty: see ``Batch``.
        requested: the number of maskable tokens to mask at the configured rate.
        flops: floating-point operations, see ``Learner.flops``.
        predictions: of each objective, by name.
    """

    examples: int = 0
    tokens: int = 0
    positions: int = 0
    predicted: int = 0
    maskable: int = 0
    masked: int = 0
    empty: int = 0
    requested: float = 0.0
    flops: float = 0.0
    predictions: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, batches: list[Batch], flops: float) -> Tally:
        names = ("tokens", "predicted", "maskable", "masked", "empty")
        counts = {name: sum(getattr(batch, name) for batch in batches) for name in names}
        return cls(
            examples=sum(len(batch.example_ids) for batch in batches),
            positions=sum(batch.input_ids_BL.numel() for batch in batches),
            requested=sum(batch.mask_prob * batch.maskable for batch in batches),
            flops=flops,
            predictions={
                name: sum(batch.predictions[name] for batch in batches)
                for name in batches[0].predictions
            },
            **counts,
        )

    def over_all_processes(self) -> Tally:
        """Return the counts of the whole step; all processes take part."""
        counts = {name: value for name, value in vars(self).items() if name != "predictions"}
        values = group.total([*counts.values(), *self.predictions.values()])
        predictions = dict(zip(self.predictions, values[len(counts) :], strict=True))
        return Tally(**dict(zip(counts, values, strict=False)), predictions=predictions)

    def with_counts_of(self, other: Tally) -> Tally:
        """Return the sum of both, without ``predictions``, which belong to a single step."""
        names = vars(self).keys() - {"predictions"}
        return Tally(**{name: getattr(self, name) + getattr(other, name) for name in names})


@dataclass
class TrainState:
    """What a run has spent so far.

    Attributes:
        tokens: without padding.
        predicted_tokens: over the vocabulary, masked or not.
        seconds: of training, without evaluation.
        flops: floating-point operations, see ``Learner.flops``.
        loss_sum: the sum of the good steps' mean losses up to the last logged line.
        bad_steps: steps that were skipped, see ``BadSteps``.
        stopped: whether training ended before its budget was spent.
    """

    step: int = 0
    examples: int = 0
    tokens: int = 0
    predicted_tokens: int = 0
    seconds: float = 0.0
    flops: float = 0.0
    loss_sum: float = 0.0
    bad_steps: int = 0
    stopped: bool = False

    @property
    def mean_loss(self) -> float:
        """The mean over all steps that were not skipped; NaN if there are none."""
        good = self.step - self.bad_steps
        return self.loss_sum / good if good else math.nan

    def add(self, tally: Tally, seconds: float) -> None:
        self.step += 1
        self.examples += tally.examples
        self.tokens += tally.tokens
        self.predicted_tokens += tally.predicted
        self.seconds += seconds
        self.flops += tally.flops

    def axes(self) -> dict[str, float]:
        """Return what was spent as ``train/*``: the axes on which runs are compared."""
        found = {
            "train/tokens": self.tokens,
            "train/seconds": self.seconds,
            "train/flops": self.flops,
        }
        if self.predicted_tokens:
            found["train/predicted_tokens"] = self.predicted_tokens
        return found


@dataclass
class Window:
    """Sums over the steps since the last logged line.

    Losses and the number of good steps stay on their device until they are read.

    Attributes:
        weights: the factor of each objective's loss in the total.
    """

    weights: Mapping[str, float]
    losses: dict[str, Tensor] = field(default_factory=dict)
    good: Tensor | float = 0.0
    seconds: float = 0.0
    tally: Tally = field(default_factory=Tally)

    def add(self, losses: Mapping[str, Tensor], good: Tensor, tally: Tally, seconds: float) -> None:
        """Add a step; its objectives' mean losses only if it is ``good``."""
        for name, loss in losses.items():
            # `where` with a scalar would copy it to the GPU, and wait.
            self.losses[name] = self.losses.get(name, 0.0) + loss.masked_fill(~good, 0.0)
        self.good = self.good + good
        self.tally = self.tally.with_counts_of(tally)
        self.seconds += seconds

    @property
    def loss(self) -> float:
        return sum(self.weights[name] * float(loss) for name, loss in self.losses.items())

    def plain(self) -> dict[str, Any]:
        losses = {name: float(loss) for name, loss in self.losses.items()}
        own = {"weights": self.weights, "losses": losses, "good": float(self.good)}
        return own | {"seconds": self.seconds, "tally": asdict(self.tally)}

    @classmethod
    def of(cls, plain: Mapping[str, Any], device: torch.device) -> Window:
        """Restore what ``plain`` returned, to the last bit."""
        import torch

        losses = {n: torch.tensor(v, device=device) for n, v in plain["losses"].items()}
        tally = Tally(**plain["tally"])
        return cls(plain["weights"], losses, plain["good"], plain["seconds"], tally)

    def metrics(self) -> dict[str, float]:
        """Return ``train/*``: mean loss, tokens a second without padding, and masking.

        With several objectives, each has its own loss beside their weighted sum. Parts of a loss
        that are only logged (``<objective>/<part>``) are ``train/<part>``, or with several
        objectives ``train/<objective>_<part>``.
        ``train/padding`` is the share of positions that are padding; ``train/mask_prob`` is the
        configured mask rate, ``train/masked_fraction`` the realised one, and ``train/empty``
        the number of sequences that drew no prediction.
        """
        good, tally = float(self.good) or math.nan, self.tally
        metrics = {
            "train/loss": self.loss / good,
            "train/tokens_per_second": tally.tokens / self.seconds,
            "train/padding": 1 - tally.tokens / tally.positions,
        }
        several = sum("/" not in name for name in self.losses) > 1
        for name, loss in self.losses.items():
            objective, _, part = name.partition("/")
            if part or several:
                prefix = f"{objective}_" * several
                metrics[f"train/{prefix}{part or 'loss'}"] = float(loss) / good
        if tally.maskable:
            metrics["train/mask_prob"] = tally.requested / tally.maskable
            metrics["train/masked_fraction"] = tally.masked / tally.maskable
            metrics["train/empty"] = tally.empty
        return metrics
