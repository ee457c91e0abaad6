"""Fine-tuning from its data to its report, by the same loop as pre-training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from bertexp.experiment import outcome, report
from bertexp.experiment.dry_run.show import show_plan
from bertexp.experiment.folder import started_by_sweep
from bertexp.experiment.invocation import Invocation
from bertexp.experiment.outcome import Clock
from bertexp.experiment.pretrain import tracked
from bertexp.experiment.saved import Saved, find_saved
from bertexp.experiment.summary import write_summary
from bertexp.experiment.training_run import TrainingRun
from bertexp.families.checkpoint import load_classifier, must_read_pairs
from bertexp.files import shown
from bertexp.finetune.config import FinetuneConfig
from bertexp.finetune.judgement import judge, write_predictions, yardsticks
from bertexp.finetune.labelled import LABEL, LabelledData, prepare_labelled
from bertexp.finetune.objective import LabelHead
from bertexp.finetune.records import write_record
from bertexp.finetune.wording import plan, results
from bertexp.objectives.learner import Learner
from bertexp.tracking.base import SafeTracker
from bertexp.tracking.identity import identify
from bertexp.tracking.trackers import JsonLinesTracker
from bertexp.training.keeper import LAST, Keeper
from bertexp.training.snapshot import load_weights
from bertexp.training.state import TrainState


def run_finetuning(
    config: FinetuneConfig, resolved: dict[str, Any], invocation: Invocation
) -> float:
    """Fine-tune, or go on with it; returns the final ``eval/loss``, that of the best model.

    Args:
        config: what to do.
        resolved: the same as plain values, for the trackers.
        invocation: how it was started.

    Raises:
        UserError: something the user can mend.
        Interrupted: a signal has come; the run can go on from where it is.
    """
    identity = identify(
        config.tracker,
        task=config.finetune.name,
        model=Path(str(config.run)).name,
        masking=None,
        seed=config.seed,
        sweep=config.sweep if started_by_sweep(invocation.folder) else None,
        known_id=invocation.beginning.tracker_id,
        name=config.name,
        job_type="finetune",
    )
    return tracked(config, resolved, invocation, identity, _finetune)


def _finetune(
    config: FinetuneConfig,
    invocation: Invocation,
    accelerator: Accelerator,
    record: JsonLinesTracker,
    tracker: SafeTracker | None,
) -> float:
    """Prepare data, train, judge, export, report."""
    folder, checkpoint = invocation.folder, invocation.beginning.checkpoint
    clock = Clock(**checkpoint.progress["seconds"]) if checkpoint else Clock()
    with clock.counting("preparation"):
        saved, data, keeper = _prepare(config, folder)
    if not accelerator.trackers:
        accelerator.init_trackers(config.tracker.project)
    learner = Learner(keeper.model, [LabelHead()]).to(accelerator.device)
    trainer = config.trainer
    each_step = trainer.batch_size * trainer.gradient_accumulation_steps
    fingerprints = {"bank": {LABEL: data.fingerprint}}
    run = TrainingRun(
        config=config,
        invocation=invocation,
        examples=data.train,
        weights={LABEL: 1.0},
        objective=learner,
        accelerator=accelerator,
        keeper=keeper,
        record=record,
        clock=clock,
        fingerprints=fingerprints,
        plan=partial(plan, config, saved, data, keeper, accelerator),
        evaluate=partial(judge, learner, data, config.finetune.metrics, accelerator.device),
        badness=partial(_badness, config.finetune.metrics[0]),
        every=config.finetune.every or -(-len(data.train) // each_step),
        patience=config.finetune.patience,
    )
    if config.trainer.dry_run:
        return show_plan(run)
    write_summary(folder, {"fingerprints": fingerprints, "parent": _parent(saved)})
    state = run.train()
    metrics, predicted = _judge_best(config, run, data, learner, state)
    _record(config, run, saved, data, metrics, predicted, state)
    return metrics["eval/loss"]


def _judge_best(
    config: FinetuneConfig,
    run: TrainingRun,
    data: LabelledData,
    learner: Learner,
    state: TrainState,
) -> tuple[dict[str, float], list[Path]]:
    """Export the best model; returns its metrics, and where its predictions are."""
    folder, keeper, device = run.invocation.folder, run.keeper, run.accelerator.device
    with run.clock.counting("evaluation"):
        keeper.offer(run.badness(run.evaluate()), state.step)
        if keeper.best and keeper.step != state.step:
            load_weights(keeper.model, folder / keeper.best)
        metrics = run.evaluate()
        predicted = write_predictions(learner, data, config.finetune, folder, device)
    with run.clock.counting("tracking"):
        run.accelerator.log(metrics | state.spent(), step=state.step)
    with run.clock.counting("checkpoints"):
        keeper.export()
    return metrics, predicted


def _record(
    config: FinetuneConfig,
    run: TrainingRun,
    saved: Saved,
    data: LabelledData,
    metrics: dict[str, float],
    predicted: Sequence[Path],
    state: TrainState,
) -> None:
    """Write and show what came of it, also in the folder of the run that was fine-tuned."""
    folder, best = run.invocation.folder, run.keeper.step
    commonest = yardsticks(data, config.finetune.metrics)
    known = {
        "metrics": metrics,
        "yardsticks": commonest,
        "answered": data.answered,
        "best": {"step": best, "folder": LAST},
    }
    write_summary(folder, known | outcome.trained(state, len(data.train), run.clock))
    write_record(config, saved, folder, metrics, data)
    if run.invocation.job is None:
        places = [folder / LAST, *predicted]
        judged, before = config.finetune.metrics[0], outcome.before_training(run.record.lines())
        files = [*map(shown, places)]
        figures = (metrics, commonest, before, data.answered)
        report.show(results(f"eval/{judged}", *figures, state, best, files))


def _prepare(config: FinetuneConfig, folder: Path) -> tuple[Saved, LabelledData, Keeper]:
    saved = find_saved(str(config.run))
    # A path that is wrong is said first: the data may take long.
    architecture = saved.architecture()
    length = saved.max_length(architecture)
    if config.finetune.text_b:
        must_read_pairs(architecture, "finetune.text_b")
    if config.finetune.max_length:
        length = min(length, config.finetune.max_length)
    tokenizer = saved.load_tokenizer()
    data = prepare_labelled(config.finetune, tokenizer, length)
    torch.manual_seed(config.seed)
    model = load_classifier(saved.source, data.labels).train()
    return saved, data, Keeper(model, tokenizer, length, folder, config.trainer)


def _badness(metric: str, metrics: dict[str, float]) -> float:
    """Return the metric that counts, lower for better models; what is undefined is the worst."""
    value = metrics[f"eval/{metric}"]
    return math.inf if math.isnan(value) else -value


def _parent(saved: Saved) -> dict[str, str | None]:
    """Return what was fine-tuned: the run, if it is one, and the model."""
    return {"run": str(saved.run) if saved.run else None, "model": saved.source}
