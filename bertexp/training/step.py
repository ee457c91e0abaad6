"""One step: gradients, and the update of the weights unless one of them is not finite."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from bertexp import group
from bertexp.families.compiling import compiling
from bertexp.objectives.batch import Batch
from bertexp.training.shards import whole
from bertexp.training.state import TrainState
from bertexp.validation import UserError

if TYPE_CHECKING:
    from bertexp.training.loop import Training

log = logging.getLogger(__name__)


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


@dataclass
class BadSteps:
    """Counts the steps that were skipped, and ends a run after too many in a row.

    To avoid waiting for a GPU in every step, decisions are read when there are
    ``limit`` of them or a checkpoint is written. On a CPU there is nothing to wait for.

    Attributes:
        in_a_row: bad steps since the last good one, as far as decisions have been read.
    """

    limit: int
    in_a_row: int = 0
    _unread: list[tuple[int, list[np.ndarray], Tensor]] = field(default_factory=list)

    def note(self, state: TrainState, batches: list[Batch], good: Tensor) -> None:
        """Note whether a step was good, shape (), equal in all processes.

        Raises:
            UserError: there were too many bad ones in a row.
        """
        ids = [batch.example_ids for batch in batches]
        self._unread.append((state.step + 1, ids, good))
        if good.device.type == "cpu" or len(self._unread) >= self.limit:
            self.read(state)

    def read(self, state: TrainState) -> None:
        """Log the bad steps since the last call, and count them in ``state``.

        Raises:
            UserError: there were too many in a row.
        """
        unread, self._unread = self._unread, []
        flags = torch.stack([good for _, _, good in unread]).tolist() if unread else []
        for good, (step, ids, _) in zip(flags, unread, strict=True):
            if good:
                self.in_a_row = 0
                continue
            self.in_a_row += 1
            state.bad_steps += 1
            everywhere = [part for parts in group.gathered(ids) for part in parts]
            log.warning(
                "step %d is skipped, its loss or gradient is not finite; its examples: %s",
                step,
                ", ".join(map(str, np.concatenate(everywhere))),
            )
            if self.in_a_row >= self.limit:
                raise UserError(
                    f"trainer.max_bad_steps={self.limit}: so many steps in a row, up to step "
                    f"{step}, had a loss or gradient that is not finite; try a lower optimizer.lr."
                )
