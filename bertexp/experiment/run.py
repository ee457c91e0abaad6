"""A run, and what follows each step: logging, evaluation, checkpoints, signals."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from bertexp import draws, group, metrics
from bertexp.config import RunConfig
from bertexp.console import show, shown
from bertexp.experiment import report
from bertexp.experiment.base import Experiment, Prepared
from bertexp.experiment.invocation import Invocation
from bertexp.experiment.summary import write_summary
from bertexp.objectives.learner import Learner
from bertexp.tracking.base import SafeTracker
from bertexp.tracking.progress import Progress
from bertexp.tracking.trackers import JsonLinesTracker
from bertexp.training.loop import Training, Watch
from bertexp.training.plan import load_steps
from bertexp.training.saving import Saver
from bertexp.training.setup import prepare_training
from bertexp.training.snapshot import restore
from bertexp.validation import UserError


@dataclass
class Clock:
    """The seconds that a run took, since its first start if it was resumed.

    Attributes:
        total: up to the last stop.
        preparation, evaluation, checkpoints, tracking: the parts that were not training.
    """

    total: float = 0.0
    preparation: float = 0.0
    evaluation: float = 0.0
    checkpoints: float = 0.0
    tracking: float = 0.0
    _began: float = field(default_factory=time.perf_counter)

    @contextmanager
    def counting(self, part: str) -> Iterator[None]:
        """Add the time of a ``with`` block to ``part``, the name of an attribute."""
        began = time.perf_counter()
        yield
        setattr(self, part, getattr(self, part) + time.perf_counter() - began)

    def read(self) -> dict[str, float]:
        seconds = {name: value for name, value in vars(self).items() if name != "_began"}
        return seconds | {"total": self.total + time.perf_counter() - self._began}


@dataclass
class Run(Watch):
    """A prepared run, and what follows each step of its training.

    Attributes:
        learner: the model with its heads.
        record, tracker: the run's own record, and the user's tracker.
        clock: the seconds so far.
    """

    experiment: Experiment[Any]
    prepared: Prepared
    invocation: Invocation
    accelerator: Accelerator
    learner: Learner
    training: Training
    saver: Saver
    record: JsonLinesTracker
    tracker: SafeTracker | None
    clock: Clock
    progress: Progress = field(init=False)

    def __post_init__(self) -> None:
        self.config: RunConfig = self.experiment.config
        self.every = self.experiment.every
        job = self.invocation.job
        hidden = not group.is_first() or (job is not None and not job.shows_bar)
        self.progress = Progress(self.training.expected_steps, disable=hidden)

    @classmethod
    def prepare(
        cls,
        experiment: Experiment[Any],
        invocation: Invocation,
        accelerator: Accelerator,
        record: JsonLinesTracker,
        tracker: SafeTracker | None,
    ) -> Run:
        config, checkpoint = experiment.config, invocation.resume.checkpoint
        clock = Clock(**checkpoint.progress["seconds"]) if checkpoint else Clock()
        with clock.counting("preparation"):
            prepared = experiment.prepare(accelerator.device)
        if not group.is_first():
            # The same weights, but different dropout.
            torch.manual_seed(draws.key("dropout", config.seed, group.rank()).item())
        if not accelerator.trackers:
            # Not before: mistakes that are found before leave no tracked run behind.
            accelerator.init_trackers(config.tracker.project)
        if group.is_first() and not config.trainer.dry_run:
            write_summary(invocation.folder, {"fingerprints": prepared.fingerprints})
            experiment.describe(invocation.folder, tracker)
        learner = Learner(prepared.model, prepared.heads).to(accelerator.device)
        training = prepare_training(
            config, prepared.examples, prepared.weights, learner, accelerator, checkpoint
        )
        exported = (prepared.model, prepared.tokenizer, prepared.max_length)
        saver = Saver(*exported, invocation.folder, config.trainer)
        parts = (accelerator, learner, training, saver, record, tracker, clock)
        return cls(experiment, prepared, invocation, *parts)

    def steps(self) -> Iterator[Any]:
        training, ahead = self.training, self.training.budget.ahead
        rate = self.experiment.mask_rate

        def mask_prob(number: int) -> float | None:
            assert rate is not None
            spent = (number - ahead, training.tokens_per_step, training.state.seconds)
            return rate(training.budget.progress(*spent))

        first = training.state.step + ahead
        workers = self.config.hardware.num_workers
        device = self.accelerator.device
        return iter(load_steps(training.batches, first, workers, device, rate and mask_prob))

    def begin(self) -> None:
        """Print the plan, then evaluate the untrained model or restore the checkpoint.

        Raises:
            UserError: the checkpoint is of another model or of other data.
        """
        training, job = self.training, self.invocation.job
        if group.is_first():
            left = training.expected_steps - training.state.step
            self.print_plan(training.expected_steps, training.step_seconds * left)
            if job:
                job.planned(training.step_seconds * left)
        checkpoint = self.invocation.resume.checkpoint
        if checkpoint is None:
            self._measure()
            training.learner.train()
            return
        self._check_data(checkpoint.progress["fingerprints"], shown(checkpoint.path))
        restore(training, checkpoint)
        self.saver.resume(checkpoint)
        spent = training.budget.fraction(training.state) >= 1
        where = f"step {checkpoint.step} · resuming from {shown(checkpoint.path)}"
        self.progress.note(where + ": the budget is spent, nothing is left to train" * spent)

    def print_plan(self, steps: int, seconds: float) -> None:
        """Print the plan, or only log it in a job of a sweep."""
        lines = report.plan(
            self.config, self.prepared, self.learner, self.accelerator, steps, seconds
        )
        show(lines, log_only=self.invocation.job is not None)

    def log(self, fraction: float, found: dict[str, float]) -> None:
        state = self.training.state
        epoch = {"train/epoch": state.examples / len(self.prepared.examples)}
        with self.clock.counting("tracking"):
            self.accelerator.log(found | epoch | state.spent(), step=state.step)
        speed = found["train/tokens_per_second"]
        self.progress.update(state.step, min(fraction, 1.0), found["train/loss"], speed)

    def evaluate(self) -> None:
        """Evaluate, and save the model if it is the best so far."""
        state, patience = self.training.state, self.experiment.patience
        self.saver.offer(self.cost(self._measure()), state.step)
        if patience is not None and self.every:
            since = state.step - (self.saver.step or 0)
            state.stopped = since >= patience * self.every

    def step(self) -> None:
        """Save if it is due or this is the last step; stop if a signal was received."""
        training, signals = self.training, self.invocation.signals
        done = training.budget.fraction(training.state) >= 1
        # A signal to one process, or a checkpoint due in one, counts for all of them.
        stop, due = group.largest([signals.received or 0, self.saver.is_due(training)])
        if done or stop or due:
            training.bad_steps.read(training.state)
            notes = {
                "logged": self.record.position(),
                "seconds": self.clock.read(),
                "steps_per_epoch": training.batches.steps_per_epoch,
                "ahead": training.budget.ahead,
                "fingerprints": self.prepared.fingerprints,
            }
            with self.clock.counting("checkpoints"):
                self.saver.save(training, notes)
        if stop:
            resume = f"trainer.resume={shown(self.invocation.folder)}"
            command = shlex.join(["python", "-m", self.config.command, resume])
            self.progress.note(f"step {training.state.step} · saved; to resume: {command}")
            signals.received = int(stop)
            signals.check()

    def end(self) -> None:
        if overshoot := self.training.budget.overshoot(self.training.state):
            self.progress.note(overshoot)

    def cost(self, found: dict[str, float]) -> float:
        """Return the cost by the metric that decides: lower is better, infinite if undefined."""
        return metrics.cost(self.experiment.decides, found[self.experiment.decides])

    def _measure(self) -> dict[str, float]:
        state = self.training.state
        spent = state.spent()
        if self.experiment.mask_rate:
            # Logged even if it is 0: runs are compared at it.
            spent["train/predicted_tokens"] = state.predicted_tokens
        with self.clock.counting("evaluation"):
            found = self.experiment.evaluate(self.learner, self.accelerator.device)
            # The same bits in all processes, which decide on the best model by them.
            found = group.from_first(found)
        with self.clock.counting("tracking"):
            self.accelerator.log(found | spent, step=state.step)
        self.progress.note(report.evaluation_line(state.step, found))
        return found

    def _check_data(self, known: dict[str, Any], checkpoint: Path) -> None:
        found = self.prepared.fingerprints
        changed = [name for name in found if found[name] != known[name]]
        if changed and not self.invocation.resume.forced:
            raise UserError(
                f"{checkpoint}: the run began with other data ({', '.join(changed)}); "
                "trainer.resume_force=true resumes it all the same."
            )
