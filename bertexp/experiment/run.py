"""One run from beginning to end: prepare, train, evaluate, record."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from hydra.utils import get_class

from bertexp import draws, group, metrics
from bertexp.config import RunConfig
from bertexp.experiment import report, results
from bertexp.experiment.base import Experiment, Final, Prepared
from bertexp.experiment.dry_run.show import show_plan
from bertexp.experiment.folder import started_by_sweep
from bertexp.experiment.invocation import Invocation
from bertexp.experiment.results import Clock
from bertexp.experiment.summary import versions, write_summary
from bertexp.files import shown
from bertexp.objectives.learner import Learner
from bertexp.tracking.base import SafeTracker
from bertexp.tracking.identity import RunIdentity, identify
from bertexp.tracking.progress import Progress
from bertexp.tracking.trackers import JsonLinesTracker, open_tracker
from bertexp.training.loop import Training, Watch, prepare_training, train
from bertexp.training.plan import load_steps
from bertexp.training.saving import Saver
from bertexp.training.setup import build_accelerator
from bertexp.training.shards import gathered_weights
from bertexp.training.snapshot import load_weights, restore
from bertexp.validation import UserError

OUTPUTS = Path("outputs")


def run_experiment(config: RunConfig, resolved: dict[str, Any], invocation: Invocation) -> float:
    """Run an experiment, or resume it; returns the final ``eval/loss``.

    Where several processes run it together, the first one writes, logs and prints.

    Args:
        config: what to do.
        resolved: the same as plain values, for the trackers.
        invocation: how it was started.

    Raises:
        UserError: a mistake of the user's, a full disk, or too many bad steps.
        Interrupted: a signal has come, and what was trained is saved.
    """
    experiment: Experiment[Any] = get_class(config.experiment_class)(config)
    identity = identify(
        config.tracker,
        seed=config.seed,
        sweep=config.sweep if started_by_sweep(invocation.folder) else None,
        known_id=invocation.resume.tracker_id,
        name=config.name,
        swept=invocation.job.overrides if invocation.job else (),
        **experiment.identity(),
    )
    with tracked(config, resolved, invocation, identity) as (accelerator, record, tracker):
        run = Run.prepare(experiment, invocation, accelerator, record, tracker)
        if config.trainer.dry_run:
            return show_plan(run)
        with run.progress, invocation.signals.deferred():
            run.begin()
            train(run.training, run.steps(), run)
            run.end()
        return run.conclude()


@contextmanager
def tracked(
    config: RunConfig, resolved: dict[str, Any], invocation: Invocation, identity: RunIdentity
) -> Iterator[tuple[Accelerator, JsonLinesTracker, SafeTracker | None]]:
    """Give the device, the run's own record and the user's tracker, which learns how it ends."""
    folder, checkpoint = invocation.folder, invocation.resume.checkpoint
    record, tracker = JsonLinesTracker(folder), None
    is_tracked = group.is_first() and not config.trainer.dry_run
    if is_tracked:
        known: dict[str, object] = {"versions": versions()}
        started = {"status": "running", "error": None, "tracker_id": identity.id}
        write_summary(folder, started | known)
        tracker = open_tracker(
            config.tracker, identity, folder, OUTPUTS.absolute(), resolved | known
        )
        record.rewind(checkpoint.progress["logged"] if checkpoint else 0)
    trackers = [each for each in (record, tracker) if each and is_tracked]
    accelerator = build_accelerator(config.hardware, trackers)
    failed = True
    try:
        if identity.group:
            # Where there are others, a run that fails early is to be seen among them.
            accelerator.init_trackers(config.tracker.project)
        yield accelerator, record, tracker
        failed = False
    finally:
        if tracker:
            tracker.close(failed)


@dataclass
class Run(Watch):
    """A run: what it trains, where, and what follows each step.

    Attributes:
        experiment, prepared: what is trained and how it is evaluated.
        invocation: how it was started.
        accelerator, learner, training: the device, the model with its heads, the loop's state.
        saver: writes checkpoints and the model.
        record, tracker: the run's own record, and the tracker that the user chose.
        clock: its seconds so far.
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
        """Prepare data and model, and measure a step."""
        config, checkpoint = experiment.config, invocation.resume.checkpoint
        clock = Clock(**checkpoint.progress["seconds"]) if checkpoint else Clock()
        with clock.counting("preparation"):
            prepared = experiment.prepare(accelerator.device)
        if not group.is_first():
            # The same weights, but dropout of its own.
            torch.manual_seed(draws.key("dropout", config.seed, group.rank()).item())
        if not accelerator.trackers:
            # Not before: a mistake found so far leaves no tracked run behind.
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
        """Return the batches of the steps to come, at the mask rate of each."""
        training, ahead = self.training, self.training.budget.ahead
        rate = self.experiment.mask_rate

        def mask_prob(number: int) -> float:
            assert rate is not None
            spent = (number - ahead, training.tokens_per_step, training.state.seconds)
            return rate(training.budget.progress(*spent))

        first = training.state.step + ahead
        workers = self.config.hardware.num_workers
        device = self.accelerator.device
        return iter(load_steps(training.batches, first, workers, device, rate and mask_prob))

    def begin(self) -> None:
        """Print the plan, then evaluate the untrained model, or restore the checkpoint.

        Raises:
            UserError: the checkpoint is of another model or other data.
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
        """Print what the run is about to do; of a sweep's job it goes to the log alone."""
        lines = report.plan(self.config, self.prepared, self.accelerator, steps, seconds)
        report.show(lines, log_only=self.invocation.job is not None)

    def log(self, fraction: float, found: dict[str, float]) -> None:
        """Log and show one line."""
        state = self.training.state
        epoch = {"train/epoch": state.examples / len(self.prepared.examples)}
        with self.clock.counting("tracking"):
            self.accelerator.log(found | epoch | state.spent(), step=state.step)
        speed = found["train/tokens_per_second"]
        self.progress.update(state.step, min(fraction, 1.0), found["train/loss"], speed)

    def evaluate(self) -> None:
        """Evaluate, and keep the model if it is the best so far."""
        state, patience = self.training.state, self.experiment.patience
        self.saver.offer(self.cost(self._measure()), state.step)
        if patience is not None and self.every:
            since = state.step - (self.saver.step or 0)
            state.stopped = since >= patience * self.every

    def step(self) -> None:
        """Save if it is time to, or the last chance; stop if a signal asks for it."""
        training, signals = self.training, self.invocation.signals
        done = training.budget.fraction(training.state) >= 1
        # What one process is told, or finds due, all of them do after the same step.
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
        """Note what the budget was exceeded by."""
        if overshoot := self.training.budget.overshoot(self.training.state):
            self.progress.note(overshoot)

    def conclude(self) -> float:
        """Evaluate, export and record what was trained; returns the final ``eval/loss``."""
        experiment, saver, state = self.experiment, self.saver, self.training.state
        folder, device = self.invocation.folder, self.accelerator.device
        with self.clock.counting("evaluation"):
            if experiment.exports_best:
                saver.offer(self.cost(experiment.evaluate(self.learner, device)), state.step)
                if saver.best and saver.step != state.step:
                    load_weights(saver.model, folder / saver.best)
            final = experiment.conclude(self.learner, folder, device)
        with self.clock.counting("checkpoints"):
            saver.export(gathered_weights(self.learner))
            best = experiment.exports_best
            saver.finish(self.cost(final.metrics), state.step, exports_best=best)
        if group.is_first():
            self._record(final)
        return final.metrics["eval/loss"]

    def cost(self, found: dict[str, float]) -> float:
        """Return the metric that decides, lower for better models; what is undefined is worst."""
        return metrics.cost(self.experiment.decides, found[self.experiment.decides])

    def _measure(self) -> dict[str, float]:
        """Evaluate, log and show it; returns the metrics."""
        state = self.training.state
        spent = state.spent()
        if self.experiment.mask_rate:
            # A point to compare at, also where nothing was predicted yet.
            spent["train/predicted_tokens"] = state.predicted_tokens
        with self.clock.counting("evaluation"):
            found = self.experiment.evaluate(self.learner, self.accelerator.device)
            # To the last bit the same for all: what is best is decided by them.
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

    def _record(self, final: Final) -> None:
        """Write, log and print the results."""
        folder, state = self.invocation.folder, self.training.state
        with self.clock.counting("tracking"):
            self.accelerator.log(final.metrics | state.spent(), step=state.step)
            if self.tracker:
                for name, (columns, rows) in final.tables.items():
                    self.tracker.log_rows(name, columns, rows)
                self.tracker.log_pictures("evaluation", final.pictures)
        write_summary(folder, results.summary(self, final))
        self.experiment.record(folder, final)
        log_only = self.invocation.job is not None
        for part in results.report(self, final):
            report.show(part, log_only=log_only)
