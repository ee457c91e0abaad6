"""Steps whose loss or gradient is not finite: they are skipped and counted."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from bertexp import group
from bertexp.objectives.batch import Batch
from bertexp.training.state import TrainState
from bertexp.validation import UserError

log = logging.getLogger(__name__)


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
