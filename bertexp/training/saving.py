"""When a run is saved, and which of its models is best."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertexp import group
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.families.checkpoint import export_model, write_model
from bertexp.training.checkpoints import FOLDER, Checkpoint, Checkpoints
from bertexp.training.config import TrainerConfig
from bertexp.training.loop import Training
from bertexp.training.shards import gathered_weights, other_models, own_weights, write_shards
from bertexp.training.snapshot import generators, optimizer_states, progress, write_tensors

LAST = "model"


@dataclass
class Saver:
    """Saves checkpoints while a run trains, and ``model/`` at its end.

    A checkpoint is a model that ``from_pretrained`` loads, and the training state beside it.
    There is one every ``trainer.save_every``, one whenever an evaluation is the best so far, and
    one at the end. All processes call all methods; the first one writes.

    Attributes:
        cost, step, best: the best model's cost, step and folder.
    """

    model: Any
    tokenizer: Tokenizer
    max_length: int
    folder: Path
    trainer: TrainerConfig
    cost: float = field(default=math.inf, init=False)
    step: int | None = field(default=None, init=False)
    best: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._checkpoints = Checkpoints(self.folder, self.trainer.keep_checkpoints)
        self._saved = time.monotonic()

    def resume(self, checkpoint: Checkpoint) -> None:
        """Restore the best model so far, unless its checkpoint was lost."""
        step, cost = checkpoint.progress["best"], checkpoint.progress["best_loss"]
        if group.from_first(self._has(step)):
            self._adopt(cost, step, _name(step))

    def offer(self, cost: float, step: int) -> None:
        """Note the model as the best if its cost is lower; the step's checkpoint will hold it."""
        if cost < self.cost:
            self._adopt(cost, step, _name(step))

    def is_due(self, run: Training) -> bool:
        step, every, minutes = run.state.step, self.trainer.save_every, self.trainer.save_minutes
        if self.step == step:
            return True
        if run.bad_steps.in_a_row:
            # A checkpoint of a failing run must not replace one that can be resumed.
            return False
        if minutes is not None:
            return time.monotonic() - self._saved >= 60 * minutes
        return isinstance(every, int) and step % every == 0

    def save(self, run: Training, notes: dict[str, Any]) -> None:
        """Write a checkpoint, unless this step has one; ``notes`` are added to its progress.

        Raises:
            UserError: the disk is full or not writable.
        """
        self._saved = time.monotonic()
        if group.from_first(self._has(run.state.step)):
            return
        states = group.gathered(generators(run))
        learner = run.accelerator.unwrap_model(run.learner)
        weights, own = gathered_weights(learner), own_weights(learner)

        def fill(folder: Path) -> None:
            write_model(self.model, self.tokenizer, self.max_length, folder, weights, own)
            write_tensors(run, states, folder)
            if weights is not None:
                write_shards(optimizer_states(run), group.from_first(folder))

        best = {"best": self.step, "best_loss": None if self.step is None else self.cost}
        if group.is_first():
            self._checkpoints.write(progress(run) | best | notes, fill)
        elif weights is not None:
            write_shards(optimizer_states(run), group.from_first(self.folder))

    def finish(self, cost: float, step: int, *, exports_best: bool) -> None:
        if exports_best:
            self.best = LAST
        elif cost < self.cost:
            self._adopt(cost, step, LAST)

    def export(self, model: Any, learner: Any, card: str) -> None:
        """Write a model to ``model/``, with its card; all processes take part.

        ``model`` has all or some of the heads that were trained.
        """
        weights, own = gathered_weights(learner), own_weights(learner, to_export=True)
        others = other_models(learner)
        if weights is not None:
            weights = {name: weights[name] for name in model.state_dict()}
        if group.is_first():
            last = self.folder / LAST
            parts = (model, self.tokenizer, self.max_length, last, weights, own)
            export_model(*parts, card, others)

    def _has(self, step: int) -> bool:
        return step in [whole.step for whole in self._checkpoints.whole]

    def _adopt(self, cost: float, step: int, name: str) -> None:
        self.cost, self.step, self.best = cost, step, name


def _name(step: int) -> str:
    return f"{FOLDER}/step-{step}"
