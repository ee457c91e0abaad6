"""The end of a sweep: its runs side by side, and which jobs failed."""

from __future__ import annotations

import re
import shlex
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from bertexp.config import parse
from bertexp.finetune.records import FOLDER, PREFIX
from bertexp.sweeps.stored import StoredJob
from bertexp.validation import UserError

if TYPE_CHECKING:
    from bertexp.compare.results import Comparison


def close(config: DictConfig, jobs: Sequence[StoredJob]) -> None:
    """Compare the runs of a sweep, then say which of its jobs failed, and why.

    Args:
        config: the sweep's configuration.
        jobs: all its jobs.

    Raises:
        UserError: there are jobs that failed.
    """
    if any(job.finished for job in jobs):
        try:
            _compare(config)
        except Exception as error:  # whatever it is, the jobs have ended and must be reported
            print(f"The comparison failed: {error}", file=sys.stderr)
    again = f"; the same command with sweep={config.sweep} tries them again"
    _fail([job for job in jobs if not job.finished], len(jobs), again)


def close_dry_run(jobs: Sequence[StoredJob], at_once: int) -> None:
    """Say what each job of a sweep would take, and all of them; then which cannot be done.

    Args:
        jobs: those that are left to do.
        at_once: jobs that run at the same time.

    Raises:
        UserError: there are jobs that failed.
    """
    from bertexp.experiment.dry_run.show import sweep_costs
    from bertexp.experiment.report import show

    plans = [(job.folder.name, job.plan) for job in jobs if job.plan]
    if plans:
        show(sweep_costs(plans, at_once))
    _fail([job for job in jobs if not job.plan], len(jobs))


def _fail(failed: Sequence[StoredJob], total: int, hint: str = "") -> None:
    """Say which jobs failed, and why; does nothing where none did.

    Raises:
        UserError: there are any.
    """
    for reason, folders in _by_reason(failed).items():
        more = len(folders) - 1
        others = f" and {more} other{'s' if more > 1 else ''}" if more else ""
        print(f"failed: {folders[0]}{others}: {reason}", flush=True)
    if failed:
        raise UserError(f"{len(failed)} of {total} jobs failed{hint}.")


def _compare(config: DictConfig) -> None:
    """Compare the runs, and track the comparison as they were tracked."""
    from bertexp.compare.report import compare_runs
    from bertexp.compare.results import setting_rows
    from bertexp.compare.runs import read_runs
    from bertexp.tracking.comparison import log_comparison
    from bertexp.tracking.config import TrackerConfig
    from bertexp.tracking.identity import group_of

    folder = Path(config.hydra.sweep.dir)
    # A fine-tuned model is judged by what its task asks for.
    judged = OmegaConf.select(config, "finetune.metrics")
    judged = [judged] if isinstance(judged, str) else judged
    runs = read_runs([folder])
    comparison = compare_runs(runs, folder, metric=f"eval/{judged[0]}" if judged else None)
    tracker = parse(config.tracker, TrackerConfig)
    columns, rows = setting_rows(comparison)
    group = group_of(tracker, str(config.sweep)) or ""
    pictures = sorted(folder.glob("*.png"))
    location = log_comparison(tracker, group, columns, rows, pictures, Path("outputs"))
    if location:
        # Offline, one command uploads the jobs as well.
        print("", re.sub(r"(wandb sync \S*/offline-run-)\S+", r"\1*", location), sep="\n")
    if judged and (fine_tuned := _fine_tuned(comparison)):
        where = shlex.join(sorted({str(Path(run).parent) for run in fine_tuned}))
        metric = f"{PREFIX}{config.finetune.name}/{judged[0]}"
        print(
            "",
            "To compare what was fine-tuned by how it was pre-trained:",
            f"python -m bertexp.compare {where} --metric {metric}",
            sep="\n",
        )


def _fine_tuned(comparison: Comparison) -> list[str]:
    """Return the runs that jobs differ in and that have their figures now."""
    named = (setting.values.get("run") for setting in comparison.settings)
    return [str(run) for run in named if run and (Path(str(run)) / FOLDER).is_dir()]


def _by_reason(jobs: Sequence[StoredJob]) -> dict[str, list[Path]]:
    """Return the folders of jobs without a result by the reason, which many may have in common."""
    found: dict[str, list[Path]] = defaultdict(list)
    for job in jobs:
        found[_reason(job)].append(job.folder)
    return found


def _reason(job: StoredJob) -> str:
    """Return in one line why a job has no result."""
    if job.status == "failed" and job.error:
        return job.error.removeprefix(f"{UserError.__name__}: ").splitlines()[0]
    return "it was interrupted" if job.status == "interrupted" else "its process died"
