"""Runs the jobs of a sweep that are left, and reports how all jobs ended.

It uses only Hydra's interface for plugins: a sweeper, which gets a launcher and passes it
overrides. Callbacks cannot do this: that of a job is called after its launcher has started it, an
error in one becomes a warning, and none is called at the end of a sweep that is interrupted.
"""

from __future__ import annotations

import os
import shlex
import sys
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from bertexp.config import RunConfig, keys
from bertexp.console import clock, plural
from bertexp.experiment.invocation import gpus, jobs_at_once, seconds_a_job
from bertexp.experiment.phases import expand
from bertexp.sweeps.checks import refuse_mistakes
from bertexp.sweeps.points import Varied
from bertexp.sweeps.stored import (
    DRY_RUNS,
    StoredJob,
    clear_dry_run,
    folder_name,
    only_sweep,
    outcome,
    read_job,
    report,
    stored_jobs,
)
from bertexp.validation import UserError, require_folder_name


@dataclass(frozen=True)
class Planned:
    """A job to launch: its configuration, what its folder holds, and the folder to work in."""

    overrides: list[str]
    composed: DictConfig
    stored: StoredJob
    folder: Path


class _Composed:
    """Passes composed configurations to a launcher of this process; others compose anew."""

    def __init__(self, loader: ConfigLoader) -> None:
        self._loader = loader
        self.configs: dict[tuple[str, ...], DictConfig] = {}

    def load_sweep_config(
        self, master_config: DictConfig, sweep_overrides: list[str]
    ) -> DictConfig:
        if (found := self.configs.pop(tuple(sweep_overrides), None)) is not None:
            return found
        return self._loader.load_sweep_config(master_config, sweep_overrides)

    def __getstate__(self) -> dict[str, Any]:
        return {"_loader": self._loader, "configs": {}}


class ResumableSweeper(Sweeper):
    """Launches the jobs that are not finished; the others keep their results.

    A job is finished if one of the sweep's folders holds a finished run with the same values of
    all keys that results depend on. Nothing is launched before all jobs are checked.

    Args:
        params: values by key, which those on the command line replace.
        total: the number of jobs; None if it is not known before they are launched.
        schemas: of all commands that sweep; a job may lack keys of some.

    Attributes:
        last: the folder of this process's last sweep.
    """

    last: ClassVar[Path | None] = None

    def __init__(
        self,
        params: Mapping[str, str] | None,
        total: int | None,
        schemas: Sequence[type[RunConfig]],
        compare: Callable[[DictConfig], None],
    ) -> None:
        self._params = dict(params or {})
        self._total = total
        self._schemas = schemas
        self._keys = [*dict.fromkeys(key for schema in schemas for key in keys(schema))]
        self._compare = compare

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self._config, self._loader = config, hydra_context.config_loader
        self._launcher = config.hydra.launcher
        self._composed = _Composed(self._loader)
        loader = cast(ConfigLoader, self._composed)
        self._task = HydraContext(loader, hydra_context.callbacks), task_function
        self.root = ResumableSweeper.last = Path(config.hydra.sweep.dir)
        # A dry run does not touch the jobs' folders.
        self._work = self.root / DRY_RUNS if config.trainer.dry_run else self.root

    @abstractmethod
    def run(self, varied: Varied) -> None:
        """Launch the jobs that overrides with several values stand for."""

    def sweep(self, arguments: list[str]) -> None:
        """Run the jobs that are left, then report on all of them.

        Raises:
            UserError: the sweep's name cannot name a folder, it is running already, or jobs failed.
        """
        config = self._config
        require_folder_name("sweep", str(config.sweep))
        if config.tracker.name == "wandb" and os.environ.get("WANDB_RUN_ID"):
            raise UserError(
                "WANDB_RUN_ID: is one run's id, and a sweep has several runs; unset it."
            )
        is_new = not self.root.exists()
        self._folders: dict[Path, None] = {}
        with only_sweep(self.root, config.sweep):
            # Folders are named after what varies; the rest is the same for every job.
            self._fixed, varied = self._split(arguments)
            found = stored_jobs(self.root)
            self._stored = [(job, outcome(job.config, self._keys)) for job in found]
            try:
                self.run(varied)
            except KeyboardInterrupt:
                print(f"Stopped. To resume: {_command(config)}", file=sys.stderr)
                raise
            finally:
                ended = [read_job(folder) for folder in self._folders]
                if config.trainer.dry_run:
                    clear_dry_run(self.root, is_new)
        report(config, ended, self._compare)

    def launch(self, points: Sequence[Sequence[str]], first: int = 0) -> list[StoredJob]:
        """Run the jobs that are left, and return all; ``first`` jobs were launched before.

        Raises:
            UserError: a folder holds a finished run of another configuration, a job has a wrong
                value, no job reads a setting, or two jobs are the same run.
        """
        jobs = [self._plan(overrides) for overrides in points]
        at_once, composed = jobs_at_once(self._launcher), [job.composed for job in jobs]
        if first == 0:
            searched = points[0] if self._total else None
            refuse_mistakes(composed, self._keys, self._schemas, searched)
        unique = {job.stored.folder: job for job in jobs}
        left = [job for job in unique.values() if not job.stored.finished]
        total, done = self._total or first + len(unique), len(unique) - len(left)
        if first == 0:
            print(self.announcement(total, done), flush=True)
            self._shares = min(at_once, len(unique))
        if not self._config.trainer.dry_run:
            self._folders |= {each: None for each, job in unique.items() if job.stored.finished}
        if left:
            # Absent jobs get no cores, but every round has the first one's shares of the GPUs.
            is_shared = "n_jobs" in self._launcher and bool(gpus())
            at_once = self._shares if is_shared else min(at_once, len(left))
            self.start(left, first + done, total, at_once)
        return [read_job(job.folder) for job in jobs]

    def start(self, jobs: Sequence[Planned], number: int, total: int, at_once: int) -> None:
        """Run jobs, the first of them with this ``number``, ``at_once`` at the same time."""
        self._folders |= dict.fromkeys(job.folder for job in jobs)
        OmegaConf.save(self._config, self.root / "multirun.yaml")
        config = self._config.copy()
        if "n_jobs" in self._launcher:
            config.hydra.launcher.n_jobs = at_once
        placed = [self._placed(job, total, at_once) for job in jobs]
        made = Plugins.instance().instantiate_launcher(*self._task, config)
        made.launch(placed, initial_job_idx=number)

    def _split(self, arguments: list[str]) -> tuple[list[str], Varied]:
        """Split overrides into those of all jobs and, by key, those that vary."""
        parser = OverridesParser.create(config_loader=self._loader)
        given = parser.parse_overrides(arguments)
        lists = [each for each in given if each.is_sweep_override()]
        fixed = {each.get_key_element(): each for each in given if each not in lists}
        own = [f"{key}={value}" for key, value in self._params.items() if key not in fixed]
        varied = {each.get_key_element(): each for each in parser.parse_overrides(own) + lists}
        return [each.input_line or "" for each in fixed.values()], varied

    def _plan(self, point: Sequence[str]) -> Planned:
        """Compose a job, and find its folder by its configuration or else by its name."""
        overrides = [*self._fixed, *point, "trainer.resume=auto"]
        composed = self._loader.load_sweep_config(self._config, overrides)
        expand(composed, overrides, self._config.hydra.job.config_name)
        wanted = outcome(composed, self._keys)
        same = [job for job, found in self._stored if found == wanted]
        # Preferably a finished one.
        stored = max(same, key=lambda job: job.finished, default=None)
        if stored is None:
            stored = read_job(self.root / folder_name(",".join(point or self._fixed)))
            if stored.finished:
                found = outcome(stored.config, self._keys)
                key = next(key for key in wanted if found[key] != wanted[key])
                raise UserError(
                    f"sweep={self._config.sweep}: {stored.folder.name} is finished, with "
                    f"{key}={found[key]} where it is {wanted[key]} now; choose another "
                    "sweep=..."
                )
        return Planned(overrides, composed, stored, self._work / stored.folder.name)

    def _placed(self, job: Planned, total: int, at_once: int) -> list[str]:
        subdir = str(job.folder.relative_to(self.root))
        more = [f"hydra.sweep.subdir='{subdir}'", f"+hydra.sweeper.total={total}"]
        more += [f"hydra.launcher.n_jobs={at_once}"] * ("n_jobs" in self._launcher)
        overrides = [*job.overrides, *more]
        with open_dict(job.composed):
            hydra = job.composed.hydra
            hydra.sweep.subdir, hydra.sweeper.total = subdir, total
            hydra.overrides.hydra += more
        self._composed.configs[tuple(overrides)] = job.composed
        return overrides

    def announcement(self, total: int, done: int) -> str:
        parts = [f"sweep {self._config.sweep}: {plural(total, 'job')}"]
        if total == 1 and not self._total:
            parts.append("no key has several values")
        if done and not self._total:
            parts.append(f"{done} done already")
        if done < total and (seconds := seconds_a_job(self.root)):
            rounds = -(-(total - done) // jobs_at_once(self._launcher))
            parts.append(f"about {clock(seconds * rounds)}")
        return " · ".join(parts)


def _command(config: DictConfig) -> str:
    given = [argument for argument in sys.argv[1:] if not argument.startswith("sweep=")]
    return shlex.join(["python", "-m", config.hydra.job.name, *given, f"sweep={config.sweep}"])
