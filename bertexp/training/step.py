"""One step: gradients, and the update of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from bertexp.families.compiling import compiling
from bertexp.objectives.batch import Batch
from bertexp.training.shards import whole

if TYPE_CHECKING:
    from bertexp.training.loop import Training


class Computed(NamedTuple):
    """What a step computed, shapes (), on the device.

    Attributes:
        losses: each objective's mean, see ``accumulate_gradients``.
        norm: of the gradients.
        good: whether they are all finite, and the weights were updated.
    """

    losses: dict[str, Tensor]
    norm: Tensor
    good: Tensor

    def cloned(self) -> Computed:
        losses = {name: loss.clone() for name, loss in self.losses.items()}
        return Computed(losses, self.norm.clone(), self.good.clone())


def compute_step(
    run: Training, batches: list[Batch], totals: Mapping[str, int | Tensor]
) -> Computed:
    """Update the weights by one step, unless its loss or gradient is not finite.

    The decision stays on the device: the optimizer gets it as ``found_inf``, which the fused AdamW
    knows from ``torch.amp.GradScaler`` (it then changes neither parameters nor moments nor its
    step count).

    Args:
        batches: this process's share.
        totals: the number of predictions of each objective in the whole step.
    """
    shapes = run.batches.shapes if run.compiled else frozenset()
    with compiling(all(tuple(batch.input_ids_BL.shape) in shapes for batch in batches)):
        losses = accumulate_gradients(run.learner, run.accelerator, batches, run.weights, totals)
    clip = run.config.trainer.gradient_clip or float("inf")
    norm = whole(run.accelerator.clip_grad_norm_(run.learner.parameters(), clip))
    good = torch.isfinite(torch.stack([norm, *losses.values()])).all()
    optimizer: Any = run.optimizer
    optimizer.optimizer.found_inf = (~good).float()
    optimizer.step()
    optimizer.zero_grad()
    return Computed(losses, norm, good)


def accumulate_gradients(
    learner: nn.Module,
    accelerator: Accelerator,
    batches: list[Batch],
    weights: Mapping[str, float],
    totals: Mapping[str, int | Tensor],
) -> dict[str, torch.Tensor]:
    """Accumulate the gradients of one step; returns each objective's mean loss, on the device.

    Each objective's losses are divided by the number of its predictions in the whole step
    (``totals``), so that every predicted token counts the same in whichever batch and process it
    is. The gradients are those of the means' sum, weighted by ``weights``. A step without a
    prediction (all its text is unknown) has a loss of 0.
    """
    losses = {name: torch.zeros((), device=accelerator.device) for name in weights}
    for index, batch in enumerate(batches, start=1):
        # Gradients are exchanged once, after the last batch.
        alone = accelerator.no_sync(learner) if index < len(batches) else nullcontext()
        with alone:
            with accelerator.autocast():
                sums = learner(batch.to(accelerator.device))
            means = {n: total / _divisor(totals[n.partition("/")[0]]) for n, total in sums.items()}
            weighted = [weights[name] * mean for name, mean in means.items()]
            # The exchange averages over the processes, and we want the sum.
            accelerator.backward(torch.stack(weighted).sum() * accelerator.num_processes)
        for name, mean in means.items():
            losses[name] += mean.detach()
    return accelerator.reduce(losses, "sum")


def _divisor(total: int | Tensor) -> int | Tensor:
    return total.clamp(min=1) if isinstance(total, Tensor) else max(total, 1)
