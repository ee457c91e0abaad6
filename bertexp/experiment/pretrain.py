"""One experiment: prepare data, train, evaluate, export, report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from accelerate import Accelerator
from rich.console import Group

from bertexp import draws
from bertexp.config import Config, RunConfig
from bertexp.evaluation.bank import (
    draw_samples,
    evaluate,
    example_losses,
    write_example_losses,
)
from bertexp.evaluation.evaluator import Evaluation, evaluate_fully
from bertexp.experiment import outcome, report
from bertexp.experiment.dry_run.show import show_plan
from bertexp.experiment.folder import started_by_sweep
from bertexp.experiment.invocation import Invocation
from bertexp.experiment.outcome import Clock
from bertexp.experiment.prepare import Data, prepare_data
from bertexp.experiment.summary import versions, write_summary
from bertexp.experiment.training_run import TrainingRun
from bertexp.families.build import build_model, check_model
from bertexp.files import shown
from bertexp.masking.audit import audit
from bertexp.masking.schedule import mask_rate
from bertexp.objectives.base import Sample
from bertexp.objectives.blocks import MaskedExamples
from bertexp.objectives.learner import Learner
from bertexp.pairs.examples import PairExamples
from bertexp.processes import group
from bertexp.tracking.base import SafeTracker
from bertexp.tracking.identity import RunIdentity, identify
from bertexp.tracking.trackers import JsonLinesTracker, open_tracker
from bertexp.training.keeper import Keeper
from bertexp.training.setup import build_accelerator
from bertexp.training.shards import gathered_weights
from bertexp.training.state import TrainState

if TYPE_CHECKING:
    from transformers import BertPreTrainedModel

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
    identity = _identify(config, invocation)
    return tracked(config, resolved, invocation, identity, _run)


R = TypeVar("R", bound=RunConfig)
Work = Callable[[R, Invocation, Accelerator, JsonLinesTracker, SafeTracker | None], float]


def tracked(
    config: R,
    resolved: dict[str, Any],
    invocation: Invocation,
    identity: RunIdentity,
    work: Work[R],
) -> float:
    """Do ``work`` with trackers that know how it ends; returns what it returns.

    Args:
        config: what to do.
        resolved: the same as plain values, for the trackers.
        invocation: how it was started.
        identity: what trackers know it by.
        work: gets the configuration, the invocation, the device, the run's own record and the
            tracker that the user chose.
    """
    folder, checkpoint = invocation.folder, invocation.beginning.checkpoint
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
        result = work(config, invocation, accelerator, record, tracker)
        failed = False
    finally:
        if tracker:
            tracker.close(failed)
    return result


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
    with clock.counting("preparation"):
        data, model = _prepare(config, accelerator.device)
    if not accelerator.trackers:
        # Not before: a mistake found so far leaves no tracked run behind.
        accelerator.init_trackers(config.tracker.project)
    learner = Learner(model, data.task.objectives).to(accelerator.device)
    keeper = Keeper(model, data.tokenizer, config.task.max_length, folder, config.trainer)
    run = TrainingRun(
        config=config,
        invocation=invocation,
        examples=data.examples,
        weights=data.task.weights,
        objective=learner,
        accelerator=accelerator,
        keeper=keeper,
        record=record,
        clock=clock,
        fingerprints=outcome.fingerprints(data),
        plan=partial(report.plan, config, data, keeper, accelerator),
        evaluate=partial(evaluate, learner, data.bank, accelerator.device),
        badness=itemgetter("eval/loss"),
        every=config.evaluation.every,
        mask_rate=partial(mask_rate, config.masking),
    )
    if config.trainer.dry_run:
        return show_plan(run)
    if group.is_first():
        _describe(data, folder, tracker)
    return _conclude(config, run, data, learner, run.train(), tracker)


def _prepare(config: Config, device: torch.device) -> tuple[Data, BertPreTrainedModel]:
    """Prepare the data and the model, which is the same in all processes."""
    length = config.task.max_length
    # Said first if it is wrong: the corpus may take long.
    reads_pairs = config.task.uses_sentences
    check_model(config.model, length, device, reads_pairs)
    with group.first_before_others():
        data = prepare_data(config)
    model = build_model(config.model, data.task.heads, data.tokenizer, length, config.seed)
    for evaluator in data.evaluators:
        evaluator.check(model)
    if not group.is_first():
        # The same weights, but dropout of its own.
        torch.manual_seed(draws.key("dropout", config.seed, group.rank()).item())
    return data, model


def _conclude(
    config: Config,
    run: TrainingRun,
    data: Data,
    learner: Learner,
    state: TrainState,
    tracker: SafeTracker | None,
) -> float:
    """Evaluate, export and record what was trained; returns the final ``eval/loss``."""
    device = run.accelerator.device
    with run.clock.counting("evaluation"):
        found = evaluate_fully(learner, data.bank, data.evaluators, device)
        # By all processes: each may have but a part of the weights.
        samples = draw_samples(learner, data.bank, device)
    loss = found.metrics["eval/loss"]
    with run.clock.counting("checkpoints"):
        run.keeper.finish(loss, state.step, gathered_weights(learner))
    if group.is_first():
        _record(run, data, found, samples, state, tracker)
    return loss


def _record(
    run: TrainingRun,
    data: Data,
    found: Evaluation,
    samples: Sequence[Sample],
    state: TrainState,
    tracker: SafeTracker | None,
) -> None:
    """Write, log and show what came of a run."""
    folder, metrics = run.invocation.folder, found.metrics
    write_example_losses(folder, example_losses(data.bank, found.predictions))
    pictures = [path for each in data.evaluators for path in each.draw(folder)]
    with run.clock.counting("tracking"):
        run.accelerator.log(metrics | state.spent(), step=state.step)
        if tracker:
            for name, (columns, rows) in sample_tables(samples).items():
                tracker.log_rows(name, columns, rows)
            tracker.log_pictures("evaluation", pictures)
    for evaluator in data.evaluators:
        write_summary(folder, evaluator.details())
    write_summary(folder, outcome.results(data, state, metrics, run.keeper, run.clock))
    show = partial(report.show, log_only=run.invocation.job is not None)
    yardsticks, lines = data.bank.yardsticks, run.record.lines()
    before, answered = outcome.before_training(lines), outcome.answered(data)
    details = [line for each in data.evaluators for line in each.shown()]
    show(report.results(metrics, yardsticks, data.optimum, details, state, answered, before))
    show(Group(*(sample.shown() for sample in samples)))
    show(report.remarks(outcome.remarks(lines, metrics, yardsticks, run.keeper)))
    show(report.places(shown(folder), run.keeper, tracker.location if tracker else None))


def sample_tables(samples: Sequence[Sample]) -> dict[str, tuple[list[str], list[list[Any]]]]:
    """Return samples as tables: head and rows, by name."""
    tables: dict[str, tuple[list[str], list[list[Any]]]] = {}
    for sample in samples:
        tables.setdefault(sample.table, (sample.columns, []))[1].extend(sample.rows())
    return tables


def _identify(config: Config, invocation: Invocation) -> RunIdentity:
    masks = "masked" in config.task.heads
    return identify(
        config.tracker,
        task=config.task.name,
        model=config.model.name,
        masking=config.masking if masks else None,
        seed=config.seed,
        sweep=config.sweep if started_by_sweep(invocation.folder) else None,
        known_id=invocation.beginning.tracker_id,
        name=config.name,
        swept=invocation.job.overrides if invocation.job else (),
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
