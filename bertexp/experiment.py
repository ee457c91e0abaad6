"""One experiment: prepare data, train, evaluate, export, report."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from bertexp import report
from bertexp.config import Config
from bertexp.data import Data, prepare_data
from bertexp.evaluation.answers import answer, bank_metrics, evaluate
from bertexp.evaluation.example_losses import example_losses, write_example_losses
from bertexp.evaluation.pseudo_perplexity import choose_texts, pseudo_likelihood
from bertexp.evaluation.samples import draw_samples, sample_tables
from bertexp.masking.audit import audit
from bertexp.masking.schedule import mask_rate
from bertexp.models.build import build_model
from bertexp.models.export import Keeper
from bertexp.models.objective import Objective
from bertexp.summary import read_summary, versions, write_summary
from bertexp.sweeps.job import SweepJob
from bertexp.tasks import TASKS
from bertexp.tasks.base import MaskedExamples
from bertexp.tasks.nsp import PairExamples
from bertexp.tracking.base import SafeTracker, shown
from bertexp.tracking.identity import RunIdentity, identify
from bertexp.tracking.progress import Progress
from bertexp.tracking.trackers import JsonLinesTracker, open_tracker
from bertexp.training.budget import Budget
from bertexp.training.loop import Training, measure_step, train
from bertexp.training.plan import BatchPlan, load_steps
from bertexp.training.setup import build_accelerator, build_optimizer
from bertexp.training.state import TrainState

OUTPUTS = Path("outputs")


def run_experiment(
    config: Config, resolved: dict[str, Any], folder: Path, job: SweepJob | None
) -> float:
    """Run one experiment in ``folder``; returns the final ``eval/loss``.

    Args:
        config: what to do.
        resolved: the same as plain values, for the trackers.
        folder: the run's folder, which exists.
        job: the sweep's job that this is, or None. Its lines are said instead of a report.

    Raises:
        UserError: something the user can mend.
    """
    identity = _identify(config, folder, job.sweep if job else None)
    known = {"versions": versions()}
    write_summary(folder, {"status": "running", "tracker_id": identity.id, **known})
    tracker = open_tracker(config.tracker, identity, folder, OUTPUTS.absolute(), resolved | known)
    trackers = [JsonLinesTracker(folder), *([tracker] if tracker else [])]
    accelerator = build_accelerator(config.hardware, trackers)
    failed = True
    try:
        accelerator.init_trackers(config.tracker.project)
        loss = _run(config, folder, accelerator, tracker, job)
        failed = False
    finally:
        if tracker:
            tracker.close(failed)
    return loss


def _run(
    config: Config,
    folder: Path,
    accelerator: Accelerator,
    tracker: SafeTracker | None,
    job: SweepJob | None,
) -> float:
    """Prepare data, train, evaluate, export, report; returns the final ``eval/loss``."""
    began = time.perf_counter()
    data = prepare_data(config)
    task, tokenizer, length = data.task, data.tokenizer, config.task.max_length
    model = build_model(config.model, task.model_class, tokenizer, length, config.seed)
    objective = Objective(model).to(accelerator.device)
    keeper = Keeper(model, tokenizer, length, folder)
    fingerprints = {"fingerprints": _fingerprints(data)}
    write_summary(folder, fingerprints)
    if tracker:
        tracker.describe(fingerprints)
    _audit(data, folder, tracker)
    prepared = time.perf_counter()
    state = _train(config, data, objective, accelerator, keeper, job)
    metrics = _evaluate_last(config, data, objective, accelerator, folder)
    accelerator.log(metrics | state.spent(), step=state.step)
    keeper.finish(metrics["eval/loss"], state.step)
    answers = draw_samples(objective, data.bank, tokenizer, accelerator.device)
    if tracker:
        for name, (columns, rows) in sample_tables(answers).items():
            tracker.log_rows(name, columns, rows)
    seconds = {"preparation": prepared - began, "total": time.perf_counter() - began}
    write_summary(folder, _results(data, state, metrics, keeper, seconds))
    show = partial(report.show, log_only=job is not None)
    show(report.results(metrics, data.bank.yardsticks, data.optimum, state))
    show(report.samples(answers))
    show(report.places(shown(folder), keeper, tracker.location if tracker else None))
    return metrics["eval/loss"]


def _identify(config: Config, folder: Path, sweep: str | None) -> RunIdentity:
    masks = "mlm" in TASKS[config.task.name].objectives
    return identify(
        config.tracker,
        task=config.task.name,
        model=config.model.name,
        masking=config.masking if masks else None,
        seed=config.seed,
        sweep=sweep,
        known_id=read_summary(folder).get("tracker_id"),
        name=config.name,
    )


def _audit(data: Data, folder: Path, tracker: SafeTracker | None) -> None:
    """Record what pairs and masks are, and warn if they are not what was asked for."""
    examples = data.examples
    text = examples.text if isinstance(examples, MaskedExamples) else examples
    if isinstance(text, PairExamples):
        write_summary(folder, {"pairs": text.shares(epoch=0)})
    if not isinstance(examples, MaskedExamples):
        return
    found = audit(examples)
    write_summary(folder, {"masking": asdict(found) | found.figures()})
    if tracker:
        rows = [[name, value] for name, value in found.figures().items()]
        tracker.log_rows("masking/audit", ["figure", "value"], rows)
        runs = [[*pair] for pair in found.runs.items()]
        tracker.log_rows("masking/runs", ["tokens", "runs"], runs)
    found.warn()


@dataclass(frozen=True)
class _Watch:
    """What happens while the loop trains: lines are logged and shown, the model is evaluated."""

    data: Data
    objective: Objective
    accelerator: Accelerator
    keeper: Keeper
    progress: Progress
    steps_per_epoch: int

    def log(self, state: TrainState, fraction: float, metrics: dict[str, float]) -> None:
        """Log and show one line."""
        epoch = {"train/epoch": state.step / self.steps_per_epoch}
        self.accelerator.log(metrics | epoch | state.spent(), step=state.step)
        speed = metrics["train/tokens_per_second"]
        self.progress.update(state.step, fraction, metrics["train/loss"], speed)

    def evaluate(self, state: TrainState) -> None:
        """Evaluate, and keep the model if it is the best so far."""
        metrics = evaluate(self.objective, self.data.bank, self.accelerator.device)
        self.accelerator.log(metrics | state.spent(), step=state.step)
        self.keeper.offer(metrics["eval/loss"], state.step)
        self.progress.note(report.evaluation_line(state.step, metrics))


def _train(
    config: Config,
    data: Data,
    objective: Objective,
    accelerator: Accelerator,
    keeper: Keeper,
    job: SweepJob | None,
) -> TrainState:
    """Say what is about to happen, then train; returns what was spent."""
    trainer, state = config.trainer, TrainState()
    plan = BatchPlan(
        data.examples, trainer.batch_size, trainer.gradient_accumulation_steps, config.seed
    )
    budget = Budget.of(trainer, plan.steps_per_epoch)
    optimizer = build_optimizer(config.optimizer, objective)
    prepared, optimizer = accelerator.prepare(objective, optimizer)
    step_seconds = measure_step(prepared, accelerator, plan[0], data.task.weights)
    tokens_per_step = data.examples.lengths(0).sum() / plan.steps_per_epoch
    steps = budget.expected_steps(tokens_per_step, step_seconds)
    seconds = step_seconds * steps
    plan_shown = report.plan(config, data, keeper, accelerator, steps, seconds)
    report.show(plan_shown, log_only=job is not None)
    if job:
        job.planned(seconds)

    def mask_prob(step: int) -> float:
        spent = budget.progress(step, tokens_per_step, state.seconds)
        return mask_rate(config.masking, spent)

    loader = load_steps(plan, 0, config.hardware.num_workers, accelerator.device, mask_prob)
    with Progress(steps, disable=job is not None and not job.shows_bar) as progress:
        watch = _Watch(data, objective, accelerator, keeper, progress, plan.steps_per_epoch)
        return train(
            Training(
                objective=prepared,
                weights=data.task.weights,
                optimizer=optimizer,
                accelerator=accelerator,
                steps=loader,
                state=state,
                budget=budget,
                trainer=trainer,
                scheduler=config.scheduler,
                evaluate_every=config.evaluation.every,
                on_log=watch.log,
                on_evaluate=watch.evaluate,
            )
        )


def _evaluate_last(
    config: Config, data: Data, objective: Objective, accelerator: Accelerator, folder: Path
) -> dict[str, float]:
    """Evaluate what was trained, pseudo-perplexity included; keeps each example's loss."""
    device, max_length = accelerator.device, config.task.max_length
    answers = answer(objective, data.bank, device)
    write_example_losses(folder, example_losses(data.bank, answers))
    metrics = bank_metrics(data.bank, answers)
    if "mlm" in data.task.objectives and config.evaluation.pseudo_perplexity:
        texts = choose_texts(data.tokens["validation"], config.evaluation.pseudo_perplexity)
        scored = pseudo_likelihood(objective, data.tokenizer, texts, max_length, device)
        if scored.perplexity is not None:
            metrics["eval/pseudo_perplexity"] = scored.perplexity
    return metrics


def _fingerprints(data: Data) -> dict[str, object]:
    """Return what stands for the content of everything a run is made from."""
    return {
        "corpus": data.corpus.fingerprint,
        "tokenizer": data.tokenizer.fingerprint,
        "tokens": data.tokens["train"].fingerprint,
        "bank": data.bank.fingerprints,
    }


def _results(
    data: Data,
    state: TrainState,
    metrics: dict[str, float],
    keeper: Keeper,
    seconds: dict[str, float],
) -> dict[str, object]:
    """Return what ``summary.json`` says at the end, named as in ``TrainOutput``."""
    return {
        "status": "finished",
        "train_loss": state.loss_sum / state.step,
        "train_runtime": state.seconds,
        "train_samples_per_second": state.examples / state.seconds,
        "train_steps_per_second": state.step / state.seconds,
        "total_flos": state.flops,
        "epoch": state.examples / len(data.examples),
        "metrics": metrics,
        "yardsticks": data.bank.yardsticks,
        "optimum": data.optimum,
        "best": {"eval/loss": keeper.loss, "step": keeper.step, "folder": keeper.best},
        "budget": asdict(state),
        "seconds": seconds,
    }
