"""A run that trains: logged, shown, evaluated, saved, and stopped by a signal."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from accelerate import Accelerator
from rich.console import RenderableType
from torch import nn

from bertexp.config import RunConfig
from bertexp.experiment import report
from bertexp.experiment.invocation import Invocation
from bertexp.experiment.outcome import Clock
from bertexp.files import shown
from bertexp.objectives.examples import Examples
from bertexp.processes import group
from bertexp.tracking.progress import Progress
from bertexp.tracking.trackers import JsonLinesTracker
from bertexp.training.checkpoints import Checkpoint
from bertexp.training.keeper import Keeper
from bertexp.training.loop import Training, train
from bertexp.training.plan import load_steps
from bertexp.training.ready import Ready, get_ready
from bertexp.training.snapshot import restore
from bertexp.training.state import TrainState
from bertexp.validation import UserError


@dataclass(frozen=True)
class TrainingRun:
    """The parts of a run that trains, whatever it trains.

    Attributes:
        config, invocation: what to do, and how it was started.
        examples: what it trains on.
        weights: what the mean loss of each objective is multiplied with.
        objective, accelerator: what is trained, and where.
        keeper: saves it.
        record: what its checkpoints know the length of.
        clock: its seconds so far.
        fingerprints: what stands for the contents of its data.
        plan: what is said before it begins, given its steps and seconds.
        evaluate: gives the metrics of the model as it is.
        badness: of an evaluation's metrics; the model with the least is the best.
        every: steps between two evaluations, None for none.
        patience: evaluations without a better model after which it is stopped, None for never.
        mask_rate: at a share of the budget that is spent; None where nothing is masked.
    """

    config: RunConfig
    invocation: Invocation
    examples: Examples
    weights: Mapping[str, float]
    objective: nn.Module
    accelerator: Accelerator
    keeper: Keeper
    record: JsonLinesTracker
    clock: Clock
    fingerprints: Mapping[str, object]
    plan: Callable[[int, float], RenderableType]
    evaluate: Callable[[], dict[str, float]]
    badness: Callable[[dict[str, float]], float]
    every: int | None
    patience: int | None = None
    mask_rate: Callable[[float], float] | None = None

    def train(self) -> TrainState:
        """Say what is about to happen, then train or go on; returns what was spent.

        Raises:
            UserError: a checkpoint that does not fit, a disk that cannot be written, or too
                many bad steps.
            Interrupted: a signal has come, and what was trained is saved.
        """
        ready = self.get_ready()
        state, first = replace(ready.state), ready.state.step
        ahead = ready.budget.ahead
        if group.is_first():
            self._announce(ready.steps, ready.step_seconds * (ready.steps - first))

        def mask_prob(number: int) -> float:
            assert self.mask_rate is not None
            step = number - ahead
            progress = ready.budget.progress(step, ready.tokens_per_step, state.seconds)
            return self.mask_rate(progress)

        steps = load_steps(
            ready.batches,
            first + ahead,
            self.config.hardware.num_workers,
            self.accelerator.device,
            mask_prob if self.mask_rate else None,
        )
        job = self.invocation.job
        hidden = not group.is_first() or (job is not None and not job.shows_bar)
        with Progress(ready.steps, disable=hidden) as progress:
            watch = _Watch(self, progress, ready)
            training = replace(
                ready.training(steps),
                state=state,
                evaluate_every=self.every,
                on_log=watch.log,
                on_evaluate=watch.evaluate,
                on_step=watch.step,
            )
            watch.begin(training)
            with self.invocation.signals.deferred():
                train(training)
            if overshoot := ready.budget.overshoot(state):
                progress.note(overshoot)
        return state

    def get_ready(self) -> Ready:
        """Put together what the loop begins with, and measure a step."""
        return get_ready(
            self.config,
            self.examples,
            self.weights,
            self.objective,
            self.accelerator,
            self.invocation.beginning.checkpoint,
        )

    def _announce(self, steps: int, seconds: float) -> None:
        """Say what is about to happen."""
        job = self.invocation.job
        report.show(self.plan(steps, seconds), log_only=job is not None)
        if job:
            job.planned(seconds)

    def restore(self, training: Training, checkpoint: Checkpoint) -> None:
        """Put training where it was when the checkpoint was written.

        Raises:
            UserError: its model or its data are others.
        """
        known, found = checkpoint.progress["fingerprints"], self.fingerprints
        changed = [name for name in found if found[name] != known[name]]
        if changed and not self.invocation.beginning.forced:
            raise UserError(
                f"{shown(checkpoint.path)}: the run began with other data ({', '.join(changed)}); "
                "trainer.resume_force=true goes on all the same."
            )
        restore(training, checkpoint)
        self.keeper.resume(checkpoint)


@dataclass(frozen=True)
class _Watch:
    """What happens while the loop trains: it is logged, shown, evaluated, saved and stopped."""

    run: TrainingRun
    progress: Progress
    ready: Ready

    def begin(self, training: Training) -> None:
        """Evaluate the model as it is before the first step, or resume from the checkpoint."""
        checkpoint = self.run.invocation.beginning.checkpoint
        if checkpoint is None:
            self._measure(training.state)
            training.objective.train()
            return
        self.run.restore(training, checkpoint)
        spent = training.budget.fraction(training.state) >= 1
        where = f"step {checkpoint.step} · going on from {shown(checkpoint.path)}"
        self.progress.note(where + ": the budget is spent, nothing is left to train" * spent)

    def log(self, state: TrainState, fraction: float, metrics: dict[str, float]) -> None:
        """Log and show one line."""
        epoch = {"train/epoch": state.examples / len(self.run.examples)}
        with self.run.clock.counting("tracking"):
            self.run.accelerator.log(metrics | epoch | state.spent(), step=state.step)
        speed = metrics["train/tokens_per_second"]
        self.progress.update(state.step, min(fraction, 1.0), metrics["train/loss"], speed)

    def evaluate(self, state: TrainState) -> None:
        """Evaluate, and keep the model if it is the best so far."""
        run = self.run
        run.keeper.offer(run.badness(self._measure(state)), state.step)
        if run.patience is not None and run.every:
            since = state.step - (run.keeper.step or 0)
            state.stopped = since >= run.patience * run.every

    def _measure(self, state: TrainState) -> dict[str, float]:
        """Evaluate, log and show it; returns the metrics."""
        run, spent = self.run, state.spent()
        if "mlm" in run.weights:
            # A point to compare at, also where nothing was predicted yet.
            spent["train/predicted_tokens"] = state.predicted_tokens
        with run.clock.counting("evaluation"):
            # To the last bit the same for all: what is best is decided by them.
            metrics = group.from_first(run.evaluate())
        with run.clock.counting("tracking"):
            run.accelerator.log(metrics | spent, step=state.step)
        self.progress.note(report.evaluation_line(state.step, metrics))
        return metrics

    def step(self, training: Training) -> None:
        """Save if it is time to, or the last chance; stop if a signal asks for it."""
        run, signals = self.run, self.run.invocation.signals
        done = training.budget.fraction(training.state) >= 1
        # What one process is told, or finds due, all of them do after the same step.
        stop, due = group.largest([signals.received or 0, run.keeper.is_due(training)])
        if done or stop or due:
            training.bad_steps.read(training.state)
            notes = {
                "logged": run.record.position(),
                "seconds": run.clock.read(),
                "steps_per_epoch": self.ready.batches.steps_per_epoch,
                "ahead": self.ready.budget.ahead,
                "fingerprints": run.fingerprints,
            }
            with run.clock.counting("checkpoints"):
                run.keeper.save(training, notes)
        if stop:
            resume = f"trainer.resume={shown(run.invocation.folder)}"
            command = shlex.join(["python", "-m", run.invocation.module, resume])
            self.progress.note(f"step {training.state.step} · saved; to go on: {command}")
            signals.received = int(stop)
            signals.check()
