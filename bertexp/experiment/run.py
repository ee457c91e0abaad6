"""A run, and what follows each step: logging, evaluation, checkpoints, signals."""

from __future__ import annotations

import operator
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import torch
from accelerate import Accelerator

from bertexp import draws, group, metrics
from bertexp.config import RunConfig
from bertexp.console import short_path, show
from bertexp.experiment import report
from bertexp.experiment.base import Experiment, Prepared
from bertexp.experiment.invocation import Invocation
from bertexp.experiment.summary import Clock, write_summary
from bertexp.objectives.learner import Learner
from bertexp.tracking.base import SafeTracker
from bertexp.tracking.progress import Progress
from bertexp.tracking.trackers import JsonLinesTracker
from bertexp.training.loading import load_steps
from bertexp.training.loop import Callbacks, Training
from bertexp.training.prepare import begin_phase, outlook, prepare_training
from bertexp.training.saving import Saver
from bertexp.training.snapshot import restore


@dataclass
class Run(Callbacks):
    """A prepared run, and what follows each step of its training.

    Attributes:
        learner: the model with its heads.
        trainings: of each phase.
        number: that of the phase in progress, from 0.
        record, tracker: the run's own record, and the user's tracker.
        clock: the seconds so far.
    """

    experiment: Experiment[Any]
    prepared: Prepared
    invocation: Invocation
    accelerator: Accelerator
    learner: Learner
    trainings: Sequence[Training]
    number: int
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
        self.progress = Progress(self.ends[-1], disable=hidden)

    @property
    def training(self) -> Training:
        return self.trainings[self.number]

    @property
    def ends(self) -> list[int]:
        """The step at which each phase that is left is expected to end."""
        return outlook(self.trainings[self.number :])

    @property
    def epoch(self) -> float:
        """How often the examples were seen, over all phases."""
        state, start = self.training.state, self.training.budget.start
        return start.epochs + (state.examples - start.examples) / len(self.training.phase.examples)

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
        others = [head for phase in prepared.phases for head in phase.heads]
        learner = Learner(prepared.model, prepared.heads, others).to(accelerator.device)
        trainings = prepare_training(prepared.phases, learner, accelerator, checkpoint)
        number = checkpoint.progress["phase"] if checkpoint else 0
        exported = (prepared.model, prepared.tokenizer, prepared.max_length)
        saver = Saver(*exported, invocation.folder, config.trainer)
        parts = (accelerator, learner, trainings, number, saver, record, tracker, clock)
        return cls(experiment, prepared, invocation, *parts)

    def phases(self) -> Iterator[Training]:
        """Yield each phase that is left; it is trained before the next one begins."""
        self.learner.use(self.training.phase.heads)
        yield self.training
        for number in range(self.number + 1, len(self.trainings)):
            begin_phase(self.trainings[number], self.training)
            self.number = number
            self.learner.use(self.training.phase.heads)
            self.progress.note(f"step {self.training.state.step} · phase {number + 1} begins")
            yield self.training

    def steps(self) -> Iterator[Any]:
        training, ahead = self.training, self.training.budget.ahead

        def progress(number: int) -> float:
            spent = (number - ahead, training.tokens_per_step, training.state.seconds)
            return training.phase.masked(training.budget.progress(*spent))

        first = training.state.step + ahead
        given = (training.batches, first, self.config.hardware.num_workers, self.accelerator.device)
        return load_steps(*given, progress, self.learner.rates, self.invocation.at_once)

    def begin(self) -> None:
        """Print the plan, then evaluate the untrained model or restore the checkpoint."""
        training, job = self.training, self.invocation.job
        steps = [b - a for a, b in pairwise([training.budget.start.step, *self.ends])]
        # Steps are measured one by one, which says little of those that are replayed.
        is_measured = (job is None or job.is_first) and not training.recorded
        seconds = self._seconds_left(steps) if is_measured else None
        checkpoint = self.invocation.resume.checkpoint
        if group.is_first():
            self.print_plan(steps, seconds)
            if job and seconds is not None:
                job.planned(seconds, is_resumed=checkpoint is not None)
        if checkpoint is None:
            self._measure()
            training.learner.train()
            return
        self.invocation.resume.check_data(self.prepared.fingerprints)
        restore(training, checkpoint)
        self.saver.resume(checkpoint)
        spent = training.phase.is_last and training.budget.fraction(training.state) >= 1
        where = f"step {checkpoint.step} · resuming from {short_path(checkpoint.path)}"
        self.progress.note(where + ": the budget is spent, nothing is left to train" * spent)

    def print_plan(self, steps: Sequence[int], seconds: float | None) -> None:
        """Print the plan, or only log it in a job of a sweep; ``steps`` are of each phase."""
        lines = report.plan(self.prepared, self.learner, self.training, steps, seconds)
        show(lines, log_only=self.invocation.job is not None)

    def _seconds_left(self, steps: Sequence[int]) -> float:
        done = self.training.state.step - self.training.budget.start.step
        paces = [each.pace() for each in self.trainings[self.number :]]
        return sum(map(operator.mul, paces, steps)) - paces[0] * done

    def log(self, fraction: float, found: dict[str, float]) -> None:
        state, place = self.training.state, {"train/epoch": self.epoch} | self._phase()
        with self.clock.counting("tracking"):
            self.accelerator.log(found | place | state.axes(), step=state.step)
        speed = found["train/tokens_per_second"]
        share = self.training.phase.overall(min(fraction, 1.0))
        self.progress.update(state.step, share, found["train/loss"], speed)

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
                "phase": self.number,
                "start": asdict(training.budget.start),
                "fingerprints": self.prepared.fingerprints,
            }
            with self.clock.counting("checkpoints"):
                self.saver.save(training, notes)
        if stop:
            resume = f"trainer.resume={short_path(self.invocation.folder)}"
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
        spent = state.axes() | self._phase()
        if any(each.phase.predicts_tokens for each in self.trainings):
            # Logged even if it is 0: runs are compared at it.
            spent["train/predicted_tokens"] = state.predicted_tokens
        with self.clock.counting("evaluation"):
            self.learner.use(self.prepared.heads)
            one, device = self.experiment, self.accelerator.device
            found = (one.evaluate if state.step else one.evaluate_untrained)(self.learner, device)
            self.learner.use(self.training.phase.heads)
            # The same bits in all processes, which decide on the best model by them.
            found = group.from_first(found)
        with self.clock.counting("tracking"):
            self.accelerator.log(found | spent, step=state.step)
        self.progress.note(report.evaluation_line(state.step, found))
        return found

    def _phase(self) -> dict[str, float]:
        return {"train/phase": self.number + 1} if len(self.trainings) > 1 else {}
