"""One experiment: prepare data, train, evaluate, export, report."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from bertexp import outcome, report
from bertexp.config import Config
from bertexp.data import Data, prepare_data
from bertexp.evaluation.bank import answer, bank_metrics
from bertexp.evaluation.example_losses import example_losses, write_example_losses
from bertexp.evaluation.pseudo_perplexity import choose_texts, pseudo_likelihood
from bertexp.evaluation.samples import draw_samples
from bertexp.masking.audit import audit
from bertexp.models.build import build_model
from bertexp.models.objective import Objective
from bertexp.outcome import Clock
from bertexp.pretraining import Pretraining
from bertexp.resuming import Beginning
from bertexp.signals import Signals
from bertexp.summary import write_summary
from bertexp.tasks import TASKS
from bertexp.tasks.base import MaskedExamples
from bertexp.tracking.base import SafeTracker, shown
from bertexp.tracking.identity import RunIdentity, identify
from bertexp.tracking.trackers import JsonLinesTracker, open_tracker
from bertexp.training.keeper import Keeper
from bertexp.training.setup import build_accelerator

OUTPUTS = Path("outputs")


def run_experiment(
    config: Config,
    resolved: dict[str, Any],
    folder: Path,
    sweep: str | None,
    beginning: Beginning,
    signals: Signals,
) -> float:
    """Run one experiment in ``folder``, or go on with it; returns the final ``eval/loss``.

    Args:
        config: what to do.
        resolved: the same as plain values, for the trackers.
        folder: the run's folder, which exists.
        sweep: the sweep this is a job of, or None.
        beginning: the checkpoint to go on from, if there is one.
        signals: what may ask it to stop.

    Raises:
        UserError: something the user can mend.
        Interrupted: a signal has come; the run can go on from where it is.
    """
    checkpoint = beginning.checkpoint
    clock = Clock(**checkpoint.progress["seconds"]) if checkpoint else Clock()
    identity = _identify(config, folder, sweep, beginning.tracker_id)
    tracker = open_tracker(config.tracker, identity, folder, OUTPUTS.absolute(), resolved)
    record = JsonLinesTracker(folder)
    accelerator = build_accelerator(config.hardware, [record, *([tracker] if tracker else [])])
    data = prepare_data(config)
    task, length = data.task, config.task.max_length
    model = build_model(config.model, task.model_class, data.tokenizer, length, config.seed)
    objective = Objective(model).to(accelerator.device)
    keeper = Keeper(model, data.tokenizer, length, folder, config.trainer)
    run = Pretraining(
        *(config, data, folder, objective, accelerator, keeper, record, clock, beginning, signals)
    )
    record.rewind(checkpoint.progress["logged"] if checkpoint else 0)
    write_summary(folder, outcome.inputs(data, identity.id))
    failed = True
    try:
        accelerator.init_trackers(config.tracker.project)
        _audit_masks(data, folder, tracker)
        clock.prepared()
        state = run.train()
        metrics = _evaluate_last(config, data, objective, accelerator, folder)
        accelerator.log(metrics, step=state.step)
        keeper.finish(metrics["eval/loss"], state.step)
        write_summary(folder, outcome.results(data, state, metrics, keeper, clock))
        failed = False
    finally:
        if tracker:
            tracker.close(failed)
    report.show(report.results(metrics, data.bank.yardsticks, data.optimum, state))
    answers = draw_samples(objective, data.bank, data.tokenizer, accelerator.device)
    report.show(report.samples(answers))
    report.show(report.places(shown(folder), keeper, tracker.location if tracker else None))
    return metrics["eval/loss"]


def _identify(config: Config, folder: Path, sweep: str | None, known_id: str | None) -> RunIdentity:
    masks = "mlm" in TASKS[config.task.name].objectives
    identity = identify(
        config.tracker,
        task=config.task.name,
        model=config.model.name,
        masking_prob=config.masking.prob if masks else None,
        masking_strategy=config.masking.strategy if masks else None,
        seed=config.seed,
        folder=folder,
        sweep=sweep,
        name=config.name,
    )
    return replace(identity, id=known_id) if known_id else identity


def _audit_masks(data: Data, folder: Path, tracker: SafeTracker | None) -> None:
    """Record what the masks are, and warn if they are not what was asked for."""
    if not isinstance(data.examples, MaskedExamples):
        return
    found = audit(data.examples)
    write_summary(folder, {"masking": asdict(found) | found.figures()})
    if tracker:
        rows = [[name, value] for name, value in found.figures().items()]
        tracker.log_rows("masking/audit", ["figure", "value"], rows)
        runs = [[*pair] for pair in found.runs.items()]
        tracker.log_rows("masking/runs", ["tokens", "runs"], runs)
    found.warn()


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
