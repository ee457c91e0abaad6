"""One run from beginning to end: prepare, train, evaluate, record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from hydra.utils import get_class

from bertexp import group
from bertexp.config import RunConfig
from bertexp.experiment.base import Experiment
from bertexp.experiment.dry_run import show_plan
from bertexp.experiment.folder import started_by_sweep
from bertexp.experiment.invocation import Invocation
from bertexp.experiment.results import conclude
from bertexp.experiment.run import Run
from bertexp.experiment.summary import versions, write_summary
from bertexp.signals import Interrupted
from bertexp.tracking.base import SafeTracker
from bertexp.tracking.identity import RunIdentity, identify
from bertexp.tracking.trackers import JsonLinesTracker, open_tracker
from bertexp.training.loop import train
from bertexp.training.setup import build_accelerator

OUTPUTS = Path("outputs")


def run_experiment(config: RunConfig, resolved: dict[str, Any], invocation: Invocation) -> float:
    """Run an experiment, or resume it; returns the final ``eval/loss``.

    With several processes, the first one writes, logs and prints.

    Args:
        resolved: ``config`` as plain values, for the trackers.

    Raises:
        UserError: a mistake of the user's, a full disk, or too many bad steps.
        Interrupted: a signal was received; the training so far is saved.
    """
    experiment: Experiment[Any] = get_class(config.experiment_class)(config)
    identity = identify(
        config.tracker,
        experiment.identity(),
        seed=config.seed,
        sweep=config.sweep if invocation.job or started_by_sweep(invocation.folder) else None,
        known_id=invocation.resume.tracker_id,
        name=config.name,
        swept=invocation.job.overrides if invocation.job else (),
    )
    with tracked(config, resolved, invocation, identity) as (accelerator, record, tracker):
        run = Run.prepare(experiment, invocation, accelerator, record, tracker)
        if config.trainer.dry_run:
            return show_plan(run)
        with run.progress, invocation.signals.deferred():
            run.begin()
            for training in run.phases():
                train(training, run.steps(), run)
            run.end()
        return conclude(run)


@contextmanager
def tracked(
    config: RunConfig, resolved: dict[str, Any], invocation: Invocation, identity: RunIdentity
) -> Iterator[tuple[Accelerator, JsonLinesTracker, SafeTracker | None]]:
    """Yield the accelerator, the run's own record and the user's tracker, which records its end."""
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
            # In a group, even a run that fails early must be visible.
            accelerator.init_trackers(config.tracker.project)
        yield accelerator, record, tracker
        failed = False
    except Interrupted as interrupted:
        if tracker:
            tracker.stop(interrupted.number)
        raise
    finally:
        if tracker:
            tracker.close(failed)
