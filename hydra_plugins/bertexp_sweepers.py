"""What ``-m`` does. Hydra finds plugins in this namespace only; they use sweeps and compare."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from bertexp import plugins
from bertexp.config import Config, conf_dir, store_own_keys
from bertexp.console import plural, value_text
from bertexp.experiment.invocation import jobs_at_once, seconds_a_job
from bertexp.finetune.config import FinetuneConfig
from bertexp.sweeps.checks import require_direction
from bertexp.sweeps.points import Limits, Varied, grid, suggested
from bertexp.sweeps.stored import StoredJob
from bertexp.sweeps.sweeper import Planned, ResumableSweeper
from bertexp.validation import UserError, require

SCHEMAS = (Config, FinetuneConfig)


class Extensions(SearchPathPlugin):
    """Has registered builders' own keys and the options of plugins composed with all others."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Make them known before anything is composed.

        Raises:
            UserError: an option of a plugin has the name of another one.
        """
        store_own_keys()
        known = [conf_dir()]
        for folder in plugins.conf_folders():
            if folder in known:
                continue
            for path in sorted(folder.glob("*/*.yaml")):
                if any((other / path.relative_to(folder)).exists() for other in known):
                    name = f"{path.parent.name}={path.stem}"
                    raise UserError(f"{path}: there is a {name} already; give it another name.")
            search_path.append("plugins", f"file://{folder}")
            known.append(folder)


def _compare(config: DictConfig) -> None:
    from bertexp.compare.sweep import compare_sweep

    compare_sweep(config)


class GridSweeper(ResumableSweeper):
    """Every combination of the values given, except for keys that go ``together``.

    Of these the first values are combined, the second ones and so on.
    """

    def __init__(self, params: Mapping[str, str] | None, together: Sequence[str]) -> None:
        super().__init__(params, None, SCHEMAS, _compare)
        self._together = together

    def run(self, varied: Varied) -> None:
        self.launch(grid(varied, self._together))


class SearchSweeper(ResumableSweeper):
    """Optuna's search for the lowest final ``eval/loss``; a job that fails does not end it."""

    def __init__(
        self, params: Mapping[str, str] | None, n_trials: int, n_jobs: int, sampler: DictConfig
    ) -> None:
        super().__init__(params, n_trials, SCHEMAS, _compare)
        self._n_trials, self._n_jobs, self._sampler = n_trials, n_jobs, sampler

    def sweep(self, arguments: list[str]) -> None:
        if importlib.util.find_spec("optuna") is None:
            raise UserError(
                "hydra/sweeper=optuna: the package is missing, pip install 'bertexp[optuna]'."
            )
        super().sweep(arguments)

    def run(self, varied: Varied) -> None:
        """Launch the trials, each after the results of those before it."""
        import optuna

        optuna.logging.set_verbosity(logging.WARNING)
        study = optuna.create_study(sampler=instantiate(self._sampler))
        failed = optuna.trial.TrialState.FAIL
        for first in range(0, self._n_trials, self._n_jobs):
            trials = [study.ask() for _ in range(min(self._n_jobs, self._n_trials - first))]
            jobs = self.launch([suggested(trial, varied) for trial in trials], first)
            losses = [job.objective if job.finished else None for job in jobs]
            for trial, loss in zip(trials, losses, strict=True):
                study.tell(trial, loss, **({"state": failed} if loss is None else {}))
        if any(trial.value is not None for trial in study.trials):
            best: dict[str, Any] = study.best_trial.params
            found = {"name": "optuna", "best_params": best, "best_value": study.best_value}
            OmegaConf.save(OmegaConf.create(found), self.root / "optimization_results.yaml")
            text = " ".join(f"{key}={value}" for key, value in best.items())
            print(f"lowest eval/loss {study.best_value:.3f}: {text}", flush=True)


class ResolveSweeper(ResumableSweeper):
    """Every combination of the values given, with seeds added to settings that are not resolved.

    The jobs depend on nothing but the results so far, so that the same command resumes.
    """

    def __init__(
        self, params: Mapping[str, str] | None, together: Sequence[str], **limits: Any
    ) -> None:
        super().__init__(params, None, SCHEMAS, _compare)
        self._together, self._given, self._is_over = together, limits, False

    def sweep(self, arguments: list[str]) -> None:
        self._limits = Limits(**self._given)
        if metric := self._limits.metric:
            require_direction(metric)
        super().sweep(arguments)

    def run(self, varied: Varied) -> None:
        """Launch round after round, each for the baseline and the settings that are still open."""
        from bertexp.compare.sweep import open_runs

        points = grid({k: v for k, v in varied.items() if k != "seed"}, self._together)
        seeds = self._limits.first_seeds(varied, self._config.seed)
        self._check_plan(len(points))
        wanted = [*range(len(points))]
        jobs: list[tuple[int, StoredJob]] = []
        tried = 0
        while wanted:
            tried += len(seeds)
            batch = [(place, seed) for seed in seeds for place in wanted]
            overrides = [[*points[place], f"seed={seed}"] for place, seed in batch]
            ended = self.launch(overrides, len(jobs))
            nothing_new = self._is_over and not any(job.finished for job in ended)
            if self._config.trainer.dry_run or nothing_new:
                return
            jobs += [(place, job) for (place, _), job in zip(batch, ended, strict=True)]
            finished = {job.folder: place for place, job in jobs if job.finished}
            left = open_runs(self._config, finished) if finished else []
            if self._is_over:
                return
            wanted = sorted({finished[folder] for folder in left})
            room = self._limits.max_seeds - tried
            seeds = [*range(max(seeds) + 1, max(seeds) + 1 + min(self._limits.per_round, room))]
            if wanted and room <= 0:
                self._stop(f"max_seeds={self._limits.max_seeds}")
                return

    def announcement(self, total: int, done: int) -> str:
        names = ("max_seeds", "max_time", "margin")
        limits = [f"{name}={value_text(getattr(self._limits, name))}" for name in names]
        most = plural(self._limits.max_seeds, "seed")
        return (
            f"{super().announcement(total, done)}\nup to {most} a setting, until it is resolved; "
            f"limited by hydra.sweeper.{', '.join(limits)}"
        )

    def start(self, jobs: Sequence[Planned], number: int, total: int, at_once: int) -> None:
        """Run a round unless it would take too long, which nobody knows before a job has ended."""
        limit = self._limits.max_time
        if limit is not None and seconds_a_job(self.root) is None:
            super().start(jobs[:at_once], number, total, at_once)
            number, jobs = number + at_once, jobs[at_once:]
        most = jobs_at_once(self._config.hydra.launcher)
        minutes = (seconds_a_job(self.root) or 0.0) * total / most / 60
        if jobs and limit is not None and minutes > limit:
            self._stop(f"max_time={limit:g}")
        elif jobs:
            super().start(jobs, number, total, at_once)

    def _stop(self, limit: str) -> None:
        print(f"Stopped at hydra.sweeper.{limit}; not all settings are resolved.", flush=True)
        self._is_over = True

    def _check_plan(self, settings: int) -> None:
        from bertexp.compare.sweep import check_plan, fewest_seeds

        if settings < 2:
            raise UserError("hydra/sweeper=resolve: compares settings; vary a key besides seed.")
        most, fewest = self._limits.max_seeds, fewest_seeds(settings)
        why = f"{fewest} or more, the fewest that can resolve one of {settings} settings"
        require(most >= fewest, "hydra.sweeper.max_seeds", most, why)
        check_plan(self._config)
