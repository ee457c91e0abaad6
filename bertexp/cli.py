"""The command line: compose, check, run; errors in one line."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from bertexp import group, plugins, processes
from bertexp.arguments import checked_arguments
from bertexp.config import Config, RunConfig, conf_dir, parse
from bertexp.experiment.folder import claimed, discard, is_new, load_plugins_of, record_config
from bertexp.experiment.invocation import Invocation, SweepJob, begin_job
from bertexp.experiment.phases import expand, unread_in_all
from bertexp.experiment.rates import with_rate
from bertexp.experiment.resuming import begin, resume_arguments
from bertexp.experiment.summary import recording_failure
from bertexp.files import DISK_IS_FULL
from bertexp.help import asks_for_help, help_text
from bertexp.mistakes import MISTAKES, explain, in_a_line
from bertexp.signals import Signals
from bertexp.sweeps.points import register_search
from bertexp.terminal import FULL_ERROR, command
from bertexp.unread import COMMAND_LINE, conditions, refuse_unread, written
from bertexp.validation import UserError, is_mistake

R = TypeVar("R", bound=RunConfig)

log = logging.getLogger(__name__)

# As fast as the default of 300,000 on idle cores, and eleven times as fast on busy ones.
SPIN_COUNT = "3000"
_RUN = re.compile(r"run=['\"]?(.*?)['\"]?")


@command()
def main() -> None:
    """Run the command line's experiment or sweep, then exit."""
    run_command("config", Config)


def run_command(config_name: str, schema: type[RunConfig]) -> None:
    """Run the command line's experiment, alone or as one of several processes, then exit."""
    work = partial(run_job, schema=schema)
    if not group.was_launched():
        enter(config_name, schema, work)
    _spin_little()
    group.join()
    try:
        if not group.is_first():
            # The first process reports their mistakes.
            with contextlib.suppress(UserError):
                _load_plugins(sys.argv[1:])
                resume_arguments(sys.argv[1:])
            sys.exit(processes.follow())
        enter(config_name, schema, work)
    finally:
        group.leave()


def enter(
    config_name: str,
    schema: type[RunConfig],
    work: Callable[[DictConfig], float | None],
    saved: Sequence[str] = (),
) -> None:
    """Call ``work`` with the composed configuration, for each job of a sweep, then exit.

    A mistake is printed in one line, a bug with its traceback; the exit code of both is 1.
    ``saved`` are runs that are named outside of the configuration.
    """
    wants_traceback = os.environ.get(FULL_ERROR) == "1"
    # A full disk, which the log may be on too, is reported once, not for each line of the log.
    logging.raiseExceptions = False
    failures: list[Exception] = []

    def job(composed: DictConfig) -> float | None:
        return attempt(partial(work, composed), composed, failures, wants_traceback)

    try:
        call(config_name, schema, job, saved)
    except MISTAKES as error:
        if wants_traceback:
            raise
        sys.exit(f"error: {explain(error, schema)}")
    sys.exit(1 if failures else 0)


def call(
    config_name: str,
    schema: type[RunConfig],
    job: Callable[[DictConfig], float | None],
    saved: Sequence[str] = (),
) -> None:
    """Call ``job`` with what the arguments of this process compose, once for each job of a sweep.

    Raises:
        UserError or another of ``MISTAKES``: in the arguments, or jobs of a sweep failed.
    """
    _spin_little()
    # Otherwise Hydra would print a failed composition in its own way.
    os.environ[FULL_ERROR] = "1"
    register_search()
    _load_plugins(sys.argv[1:], saved)
    if asks_for_help(sys.argv[1:]):
        print(help_text(config_name, sys.argv[1:], schema.ignores))
        sys.exit()
    sys.argv[1:] = checked_arguments(resume_arguments(sys.argv[1:]))
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(job)()


def attempt(
    work: Callable[[], float | None],
    composed: DictConfig,
    failures: list[Exception],
    wants_traceback: bool = False,
    level: int = logging.ERROR,
) -> float | None:
    """Do the work of one job; log its error, and remove its folder if it holds nothing else."""
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    # A sweep lists its failed jobs from their folders.
    is_removable = hydra_config.mode != RunMode.MULTIRUN and is_new(folder)
    composed.plugins = [*dict.fromkeys([*plugins.installed(), *plugins.listed(composed.plugins)])]
    try:
        expand(composed, hydra_config.overrides.task, str(hydra_config.job.config_name))
        return work()
    except Exception as error:
        failures.append(error)
        one_line = is_mistake(error) and not wants_traceback
        if isinstance(error, OSError) and error.errno in DISK_IS_FULL and not error.filename:
            error.filename = str(folder)  # the cache's errors name it
        log.log(level, "error: %s", in_a_line(error), exc_info=None if one_line else error)
        if is_removable and is_mistake(error):
            discard(folder)
        return None


def _load_plugins(arguments: Sequence[str], saved: Sequence[str] = ()) -> None:
    """Load installed plugins, those named in ``arguments`` and those of saved runs."""
    plugins.load([*plugins.installed(), *plugins.named_in(arguments)])
    named = (_RUN.fullmatch(argument) for argument in arguments)
    for run in (*saved, *(match[1] for match in named if match)):
        load_plugins_of(run)


def _spin_little() -> None:
    # Before torch is loaded: its threads (GNU's OpenMP) wait for each other by spinning, so long
    # that a run slows down tenfold as soon as another program takes one of the cores.
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def run_job(composed: DictConfig, schema: type[RunConfig]) -> float:
    """Run one experiment, or one of a sweep's; returns its final ``eval/loss``."""
    folder, dry_run = Path(HydraConfig.get().runtime.output_dir), composed.trainer.dry_run
    job = begin_job(HydraConfig.get())
    if job is None and dry_run and not is_new(folder):
        raise UserError(
            f"trainer.dry_run: plans a run from its start, and {folder} has one already; leave "
            "out trainer.resume, or choose another folder with hydra.run.dir."
        )
    try:
        with claimed(folder), Signals() as signals:
            overrides: Any = OmegaConf.to_container(HydraConfig.get().overrides.task)
            resume = begin(composed, folder, overrides, schema)
            result = resume.result
            if result is None:
                with recording_failure(folder):
                    config, resolved = _settle(resume.composed, folder, schema, job)
                    invocation = Invocation(folder, resume, signals, job)
                    result = processes.run(config, resolved, invocation)
            else:
                log.info("%s: the run is finished; a longer budget would resume it.", folder)
    finally:
        if job is None and dry_run:
            discard(folder)
    if job and not dry_run:
        job.finished(result)
    return result


def _settle(
    composed: DictConfig, folder: Path, schema: type[R], job: SweepJob | None
) -> tuple[R, dict[str, Any]]:
    try:
        composed = with_rate(composed)
    finally:
        # In any case: of a run that fails, too, one wants to know what it was.
        record_config(folder, composed)
    config = parse(composed, schema)
    if job is None:  # a sweep checks all its jobs before the first starts
        refuse_unread(written(HydraConfig.get()), composed, schema, reasons=unread_in_all)
    else:
        own = {key: it for key, it in written(HydraConfig.get()).items() if it == COMMAND_LINE}
        for key in unread_in_all(own, composed, conditions(schema)):
            log.warning("%s: this job does not read it.", key)
    resolved: Any = OmegaConf.to_container(composed, resolve=True)
    return config, resolved
