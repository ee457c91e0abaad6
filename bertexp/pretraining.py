"""The training of an experiment: logged, shown, evaluated, saved, and stopped by a signal."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from accelerate import Accelerator
from torch.distributed.fsdp import register_fsdp_forward_method

from bertexp import report
from bertexp.config import Config
from bertexp.data import Data
from bertexp.evaluation.answers import evaluate
from bertexp.files import shown
from bertexp.masking.schedule import mask_rate
from bertexp.models.objective import Objective
from bertexp.processes import group
from bertexp.runs import outcome
from bertexp.runs.invocation import Invocation
from bertexp.runs.outcome import Clock
from bertexp.tracking.progress import Progress
from bertexp.tracking.trackers import JsonLinesTracker
from bertexp.training.bad_steps import BadSteps
from bertexp.training.budget import Budget
from bertexp.training.checkpoints import Checkpoint
from bertexp.training.keeper import Keeper
from bertexp.training.loop import Training, measure_step, train
from bertexp.training.plan import BatchPlan, load_steps
from bertexp.training.setup import build_optimizer
from bertexp.training.snapshot import restore
from bertexp.training.state import TrainState, Window
from bertexp.validation import UserError


@dataclass(frozen=True)
class Pretraining:
    """The parts of a run that trains.

    Attributes:
        config, invocation, data: what to do, how it was started, and on what.
        objective, accelerator: what is trained, and where.
        keeper: saves it.
        record: what its checkpoints know the length of.
        clock: its seconds so far.
    """

    config: Config
    invocation: Invocation
    data: Data
    objective: Objective
    accelerator: Accelerator
    keeper: Keeper
    record: JsonLinesTracker
    clock: Clock

    def train(self) -> TrainState:
        """Say what is about to happen, then train or go on; returns what was spent.

        Raises:
            UserError: a checkpoint that does not fit, a disk that cannot be written, or too
                many bad steps.
            Interrupted: a signal has come, and what was trained is saved.
        """
        config, data, accelerator, state = self.config, self.data, self.accelerator, TrainState()
        trainer, checkpoint = config.trainer, self.invocation.beginning.checkpoint
        plan = BatchPlan(
            data.examples,
            trainer.batch_size,
            trainer.gradient_accumulation_steps,
            config.seed,
            group.rank(),
            group.size(),
        )
        budget = Budget.of(trainer, plan.steps_per_epoch)
        optimizer = build_optimizer(config.optimizer, self.objective)
        prepared, optimizer = accelerator.prepare(self.objective, optimizer)
        if accelerator.is_fsdp2:
            register_fsdp_forward_method(prepared, "logits")
        tokens_per_step = data.examples.lengths(0).sum() / plan.steps_per_epoch
        step_seconds = measure_step(prepared, accelerator, plan[0], data.task.weights)
        steps = budget.expected_steps(tokens_per_step, step_seconds)

        def mask_prob(step: int) -> float:
            spent = budget.progress(step, tokens_per_step, state.seconds)
            return mask_rate(config.masking, spent)

        first = checkpoint.step if checkpoint else 0
        seconds = step_seconds * (steps - first)
        if group.is_first():
            self._announce(steps, seconds)
        job = self.invocation.job
        hidden = not group.is_first() or (job is not None and not job.shows_bar)
        with Progress(steps, disable=hidden) as progress, self.invocation.signals.deferred():
            watch = _Watch(self, progress, plan.steps_per_epoch)
            training = Training(
                objective=prepared,
                weights=data.task.weights,
                optimizer=optimizer,
                accelerator=accelerator,
                steps=load_steps(
                    plan, first, config.hardware.num_workers, accelerator.device, mask_prob
                ),
                state=state,
                budget=budget,
                trainer=trainer,
                scheduler=config.scheduler,
                evaluate_every=config.evaluation.every,
                on_log=watch.log,
                on_evaluate=watch.evaluate,
                on_step=watch.step,
                bad_steps=BadSteps(trainer.max_bad_steps),
                window=Window(data.task.weights),
            )
            if checkpoint:
                self._restore(training, checkpoint)
                progress.note(f"step {first} · going on from {shown(checkpoint.path)}")
            return train(training)

    def _announce(self, steps: int, seconds: float) -> None:
        """Say what is about to happen."""
        plan = report.plan(self.config, self.data, self.keeper, self.accelerator, steps, seconds)
        job = self.invocation.job
        report.show(plan, log_only=job is not None)
        if job:
            job.planned(seconds)

    def _restore(self, training: Training, checkpoint: Checkpoint) -> None:
        known, found = checkpoint.progress["fingerprints"], outcome.fingerprints(self.data)
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

    run: Pretraining
    progress: Progress
    steps_per_epoch: int

    def log(self, state: TrainState, fraction: float, metrics: dict[str, float]) -> None:
        """Log and show one line."""
        epoch = {"train/epoch": state.step / self.steps_per_epoch}
        with self.run.clock.counting("tracking"):
            self.run.accelerator.log(metrics | epoch | state.spent(), step=state.step)
        speed = metrics["train/tokens_per_second"]
        self.progress.update(state.step, fraction, metrics["train/loss"], speed)

    def evaluate(self, state: TrainState) -> None:
        """Evaluate, and keep the model if it is the best so far."""
        run = self.run
        with run.clock.counting("evaluation"):
            found = evaluate(run.objective, run.data.bank, run.accelerator.device)
            # To the last bit the same for all: what is best is decided by them.
            metrics = group.from_first(found)
        with run.clock.counting("tracking"):
            run.accelerator.log(metrics | state.spent(), step=state.step)
        run.keeper.offer(metrics["eval/loss"], state.step)
        self.progress.note(report.evaluation_line(state.step, metrics))

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
                "steps_per_epoch": self.steps_per_epoch,
                "fingerprints": outcome.fingerprints(run.data),
            }
            with run.clock.counting("checkpoints"):
                run.keeper.save(training, notes)
        if stop:
            self.progress.note(
                f"step {training.state.step} · saved; to go on: "
                + shlex.join(
                    ["python", "-m", "bertexp", f"trainer.resume={shown(run.invocation.folder)}"]
                )
            )
            signals.received = int(stop)
            signals.check()
