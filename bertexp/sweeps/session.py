"""A sweep from its first job to its last: one at a time, and a report at the end."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from bertexp.sweeps.closing import close
from bertexp.sweeps.launcher import RemainingJobs
from bertexp.sweeps.lock import only_sweep
from bertexp.sweeps.stored import read_job
from bertexp.validation import require_folder_name


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
    varied, fixed = _split(arguments)
    sweeper.params = {key: value for key, value in sweeper.params.items() if key not in fixed}
    config, loader = sweeper.config, sweeper.hydra_context.config_loader
    with only_sweep(Path(config.hydra.sweep.dir), config.sweep):
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
    close(config, [read_job(job) for job in jobs.folders])


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
