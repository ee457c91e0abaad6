"""What ``-m`` does. Hydra finds plugins in this namespace only; the work is in bertexp.sweeps."""

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
from bertexp.finetune.config import FinetuneConfig
from bertexp.sweeps.points import Varied, grid, suggested
from bertexp.sweeps.sweeper import ResumableSweeper
from bertexp.validation import UserError

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
            losses = self.launch([suggested(trial, varied) for trial in trials], first)
            for trial, loss in zip(trials, losses, strict=True):
                study.tell(trial, loss, **({"state": failed} if loss is None else {}))
        if any(trial.value is not None for trial in study.trials):
            best: dict[str, Any] = study.best_trial.params
            found = {"name": "optuna", "best_params": best, "best_value": study.best_value}
            OmegaConf.save(OmegaConf.create(found), self.root / "optimization_results.yaml")
            text = " ".join(f"{key}={value}" for key, value in best.items())
            print(f"lowest eval/loss {study.best_value:.3f}: {text}", flush=True)
