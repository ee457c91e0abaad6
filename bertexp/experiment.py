"""One experiment: prepare data, train, evaluate, export, report."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from bertexp import draws, report
from bertexp.config import Config
from bertexp.data import Data, prepare_data
from bertexp.evaluation.example_losses import example_losses, write_example_losses
from bertexp.evaluation.samples import draw_samples, sample_tables
from bertexp.evaluation.whole import evaluate_whole
from bertexp.files import shown
from bertexp.masking.audit import audit
from bertexp.models.build import build_model, check_checkpoint
from bertexp.models.objective import Objective
from bertexp.pretraining import Pretraining
from bertexp.processes import group
from bertexp.runs import outcome
from bertexp.runs.folder import started_by_sweep
from bertexp.runs.invocation import Invocation
from bertexp.runs.outcome import Clock
from bertexp.runs.summary import versions, write_summary
from bertexp.tasks import TASKS
from bertexp.tasks.base import MaskedExamples
from bertexp.tasks.nsp import PairExamples
from bertexp.tracking.base import SafeTracker
from bertexp.tracking.identity import RunIdentity, identify
from bertexp.tracking.trackers import JsonLinesTracker, open_tracker
from bertexp.training.keeper import Keeper
from bertexp.training.setup import build_accelerator
from bertexp.training.shards import gathered_weights

OUTPUTS = Path("outputs")


def run_experiment(config: Config, resolved: dict[str, Any], invocation: Invocation) -> float:
    """Run an experiment, or go on with it; returns the final ``eval/loss``.

    Where several processes do it together, the first one writes, logs and shows.

    Args:
        config: what to do.
        resolved: the same as plain values, for the trackers.
        invocation: how it was started.

    Raises:
        UserError: something the user can mend.
        Interrupted: a signal has come; the run can go on from where it is.
    """
    folder, checkpoint = invocation.folder, invocation.beginning.checkpoint
    identity = _identify(config, folder, invocation.beginning.tracker_id)
    record, tracker = JsonLinesTracker(folder), None
    if group.is_first():
        known: dict[str, object] = {"versions": versions()}
        started = {"status": "running", "error": None, "tracker_id": identity.id}
        write_summary(folder, started | known)
        tracker = open_tracker(
            config.tracker, identity, folder, OUTPUTS.absolute(), resolved | known
        )
        record.rewind(checkpoint.progress["logged"] if checkpoint else 0)
    trackers = [tracked for tracked in (record, tracker) if tracked and group.is_first()]
    accelerator = build_accelerator(config.hardware, trackers)
    failed = True
    try:
        if identity.group:
            # Where there are others, a run that fails early is to be seen among them.
            accelerator.init_trackers(config.tracker.project)
        loss = _run(config, invocation, accelerator, record, tracker)
        failed = False
    finally:
        if tracker:
            tracker.close(failed)
    return loss


def _run(
    config: Config,
    invocation: Invocation,
    accelerator: Accelerator,
    record: JsonLinesTracker,
    tracker: SafeTracker | None,
) -> float:
    """Prepare data, train, evaluate, export, report; returns the final ``eval/loss``."""
    folder, checkpoint = invocation.folder, invocation.beginning.checkpoint
    clock = Clock(**checkpoint.progress["seconds"]) if checkpoint else Clock()
    length = config.task.max_length
    with clock.counting("preparation"):
        # Said first if it is wrong: the corpus may take long.
        check_checkpoint(config.model, length)
        with group.first_before_others():
            data = prepare_data(config)
    task = data.task
    model = build_model(config.model, task.model_class, data.tokenizer, length, config.seed)
    if not group.is_first():
        # The same weights, but dropout of its own.
        torch.manual_seed(draws.key("dropout", config.seed, group.rank()).item())
    if not accelerator.trackers:
        # Not before: a mistake found so far leaves no tracked run behind.
        accelerator.init_trackers(config.tracker.project)
    objective = Objective(model).to(accelerator.device)
    keeper = Keeper(model, data.tokenizer, length, folder, config.trainer)
    run = Pretraining(config, invocation, data, objective, accelerator, keeper, record, clock)
    if group.is_first():
        _describe(data, folder, tracker)
    state = run.train()
    with clock.counting("evaluation"):
        found, metrics = evaluate_whole(config, data, objective, accelerator.device)
        answers = draw_samples(objective, data.bank, data.tokenizer, accelerator.device)
    with clock.counting("checkpoints"):
        keeper.finish(metrics["eval/loss"], state.step, gathered_weights(objective))
    if not group.is_first():
        return metrics["eval/loss"]
    write_example_losses(folder, example_losses(data.bank, found))
    with clock.counting("tracking"):
        accelerator.log(metrics | state.spent(), step=state.step)
        if tracker:
            for name, (columns, rows) in sample_tables(answers).items():
                tracker.log_rows(name, columns, rows)
    write_summary(folder, outcome.results(data, state, metrics, keeper, clock))
    show = partial(report.show, log_only=invocation.job is not None)
    show(report.results(metrics, data.bank.yardsticks, data.optimum, state))
    show(report.samples(answers))
    show(report.places(shown(folder), keeper, tracker.location if tracker else None))
    return metrics["eval/loss"]


def _identify(config: Config, folder: Path, known_id: str | None) -> RunIdentity:
    masks = "mlm" in TASKS[config.task.name].objectives
    return identify(
        config.tracker,
        task=config.task.name,
        model=config.model.name,
        masking=config.masking if masks else None,
        seed=config.seed,
        sweep=config.sweep if started_by_sweep(folder) else None,
        known_id=known_id,
        name=config.name,
    )


def _describe(data: Data, folder: Path, tracker: SafeTracker | None) -> None:
    """Record what the data are, pairs and masks, and warn if they are not what was asked for."""
    fingerprints = {"fingerprints": outcome.fingerprints(data)}
    write_summary(folder, fingerprints)
    if tracker:
        tracker.describe(fingerprints)
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
