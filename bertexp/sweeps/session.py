"""A sweep from its first job to its last: one at a time, and a report at the end."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from bertexp.experiment.summary import LOCK_FILE
from bertexp.sweeps.closing import close, close_dry_run
from bertexp.sweeps.launcher import DRY_RUNS, RemainingJobs, jobs_at_once
from bertexp.sweeps.lock import only_sweep
from bertexp.sweeps.stored import read_job
from bertexp.validation import UserError, require_folder_name


@contextmanager
def session(sweeper: Any, arguments: Iterable[str], total: int | None) -> Iterator[list[str]]:
    """Let a sweeper run only what is left to do, then report on all its jobs.

    Gives those of the sweep's overrides that have several values: all that the sweeper needs
    to know, and what jobs' folders are named by. The others are added to every job.

    Args:
        sweeper: one of Hydra's, which all have config, hydra_context, launcher and params.
        arguments: the sweep's overrides.
        total: jobs in all, None if they are launched all at once.

    Raises:
        UserError: the sweep's name is no folder's, it is running already, or jobs failed.
    """
    require_folder_name("sweep", str(sweeper.config.sweep))
    if sweeper.config.tracker.name == "wandb" and os.environ.get("WANDB_RUN_ID"):
        raise UserError("WANDB_RUN_ID: is one run's id, and a sweep has several runs; unset it.")
    root = Path(sweeper.config.hydra.sweep.dir)
    is_new = not root.exists()
    varied, fixed = _split(arguments)
    sweeper.params = {key: value for key, value in sweeper.params.items() if key not in fixed}
    config, loader = sweeper.config, sweeper.hydra_context.config_loader
    with only_sweep(root, config.sweep):
        jobs = RemainingJobs(sweeper.launcher, loader, config, [*fixed.values()], total)
        sweeper.launcher = jobs
        try:
            yield varied
        except KeyboardInterrupt:
            print(f"Stopped. To go on: {_command(config)}", file=sys.stderr)
            raise
        except Exception:
            # A search in which every job failed has nothing to choose from.
            if all(job.finished for job in map(read_job, jobs.folders)):
                raise
        finally:
            ended = [read_job(job) for job in jobs.folders]
            if config.trainer.dry_run:
                _clear(root, is_new)
    if config.trainer.dry_run:
        close_dry_run(ended, jobs_at_once(config.hydra.launcher))
    else:
        close(config, ended)


def _clear(root: Path, is_new: bool) -> None:
    """Remove what a dry run has left in a sweep's folder: all of it, where it made the folder."""
    for path in root.iterdir():
        if path.name == DRY_RUNS or (is_new and not path.name.startswith(LOCK_FILE)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _split(arguments: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """Part overrides into those of several values and, by key, those of one."""
    varied, fixed = [], {}
    for override in OverridesParser.create().parse_overrides(list(arguments)):
        line = override.input_line or ""
        if override.is_sweep_override():
            varied.append(line)
        else:
            fixed[override.get_key_element()] = line
    return varied, fixed


def _command(config: DictConfig) -> str:
    """Return the command line that goes on with this sweep."""
    given = [argument for argument in sys.argv[1:] if not argument.startswith("sweep=")]
    return shlex.join(["python", "-m", config.hydra.job.name, *given, f"sweep={config.sweep}"])
