"""What ``-m`` does. Hydra finds plugins in this namespace only; the work is in bertexp.sweeps."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.types import Override
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from bertexp import plugins
from bertexp.config import conf_dir, store_own_keys
from bertexp.sweeps.session import session
from bertexp.validation import UserError


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


class GridSweeper(BasicSweeper):
    """Every combination of the values given, save those of keys that go together.

    Args:
        params: values by key, as on the command line.
        together: keys of which the first values belong together, the second ones and so on.
    """

    def __init__(self, params: Mapping[str, str] | None, together: Sequence[str]) -> None:
        super().__init__(max_batch_size=None, params=dict(params or {}))
        self._together = set(together)

    def sweep(self, arguments: list[str]) -> None:
        """Run every job that is not finished."""
        with session(self, arguments, total=None) as varied:
            super().sweep(varied)

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Do nothing: all jobs are composed before the first is launched."""

    def split_arguments(  # type: ignore[override]  # there it is static
        self, overrides: list[Override], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        """Return all jobs, each a list of overrides, as the one batch there is."""
        latest = {override.get_key_element(): override for override in overrides}
        lists = {
            key: [f"{key}={value}" for value in latest.pop(key).sweep_string_iterator()]
            for key in [*latest]
            if key in self._together
        }
        if missing := self._together - lists.keys():
            raise UserError(f"hydra.sweeper.together: {min(missing)} is not swept over.")
        if len({len(values) for values in lists.values()}) > 1:
            counts = ", ".join(f"{key} has {len(values)}" for key, values in lists.items())
            raise UserError(f"hydra.sweeper.together: needs as many values of each; {counts}.")
        (product,) = super().split_arguments([*latest.values()], None)
        points = zip(*lists.values(), strict=True) if lists else [()]
        return [[[*point, *job] for point in points for job in product]]


class SearchSweeper(Sweeper):
    """Optuna's search for the lowest final ``eval/loss``; a job that fails does not end it.

    Args:
        params, n_trials, n_jobs, sampler: see ``bertexp.sweeps.config``.
    """

    def __init__(
        self, params: Mapping[str, str] | None, n_trials: int, n_jobs: int, sampler: DictConfig
    ) -> None:
        self._params = dict(params or {})
        self._n_trials = n_trials
        self._n_jobs = n_jobs
        self._sampler = sampler

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Get ready for a search around ``config``.

        Raises:
            UserError: Optuna or its plugin is not installed.
        """
        if importlib.util.find_spec("hydra_plugins.hydra_optuna_sweeper") is None:
            raise UserError(
                "hydra/sweeper=optuna: the package is missing, pip install 'bertexp[optuna]'."
            )
        import optuna
        from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl

        optuna.logging.set_verbosity(logging.WARNING)
        self._search = OptunaSweeperImpl(
            sampler=instantiate(self._sampler),
            direction="minimize",
            storage=None,
            study_name=None,
            n_trials=self._n_trials,
            n_jobs=self._n_jobs,
            max_failure_rate=1.0,
            search_space=None,
            custom_search_space=None,
            params=OmegaConf.create(self._params),
        )
        self._search.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> None:
        """Run the trials that are not finished, each after what those before it came to."""
        with session(self._search, arguments, self._n_trials) as varied:
            self._search.sweep(varied)
            found = OmegaConf.load(Path(self._search.sweep_dir) / "optimization_results.yaml")
            best = " ".join(f"{key}={value}" for key, value in found.best_params.items())
            print(f"lowest eval/loss {found.best_value:.3f}: {best}", flush=True)
