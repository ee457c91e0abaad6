"""The end of a sweep: the comparison of its runs, then the jobs that failed, and why."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from omegaconf import DictConfig

from bertexp.experiment.invocation import jobs_at_once
from bertexp.sweeps.stored import StoredJob
from bertexp.validation import UserError


def report(
    config: DictConfig, jobs: Sequence[StoredJob], compare: Callable[[DictConfig], None]
) -> None:
    """Compare the runs of a sweep, or show their expected cost; then list the jobs that failed.

    Args:
        jobs: all its jobs; in a dry run those that are left.

    Raises:
        UserError: some jobs failed.
    """
    if config.trainer.dry_run:
        _show_costs(jobs, jobs_at_once(config.hydra.launcher))
        _fail([job for job in jobs if not job.plan], len(jobs))
        return
    if any(job.finished for job in jobs):
        try:
            compare(config)
        except Exception as error:  # in any case, the failed jobs must be listed
            print(f"The comparison failed: {error}", file=sys.stderr)
    again = f"; the same command with sweep={config.sweep} tries them again"
    _fail([job for job in jobs if not job.finished], len(jobs), again)


def _show_costs(jobs: Sequence[StoredJob], at_once: int) -> None:
    from bertexp.console import show
    from bertexp.experiment.dry_run import sweep_costs

    if plans := [(job.folder.name, job.plan) for job in jobs if job.plan]:
        show(sweep_costs(plans, at_once))


def _fail(failed: Sequence[StoredJob], total: int, hint: str = "") -> None:
    """List failed jobs by their reason, which many may share."""
    reasons: dict[str, list[Path]] = {}
    for job in failed:
        reasons.setdefault(_reason(job), []).append(job.folder)
    for reason, folders in reasons.items():
        more = len(folders) - 1
        others = f" and {more} other{'s' if more > 1 else ''}" if more else ""
        print(f"failed: {folders[0]}{others}: {reason}", flush=True)
    if failed:
        raise UserError(f"{len(failed)} of {total} jobs failed{hint}.")


def _reason(job: StoredJob) -> str:
    if job.status == "failed" and job.error:
        return job.error.removeprefix(f"{UserError.__name__}: ").splitlines()[0]
    return "it was interrupted" if job.status == "interrupted" else "its process died"
