"""``hydra/sweeper=optuna``.

In Python, as Optuna's own plugin for Hydra, which may be installed, stores an entry of this name
that no file can replace.
"""

from __future__ import annotations

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

SEARCH = {
    "_target_": "hydra_plugins.bertexp_sweepers.SearchSweeper",
    "_recursive_": False,
    # Values or intervals by key, as in the grid's params.
    "params": None,
    # Jobs in all.
    "n_trials": 20,
    # Jobs that are drawn at a time; they run at a time with hydra/launcher=joblib.
    "n_jobs": 1,
    # One of Optuna's samplers, and its arguments. With a seed the same command draws the same
    # jobs, so that a search can be resumed.
    "sampler": {"_target_": "optuna.samplers.TPESampler", "seed": 0},
}


def register_search() -> None:
    """Make ``hydra/sweeper=optuna`` choose the search of this package."""
    Plugins.instance()  # has that plugin register itself before, not after
    ConfigStore.instance().store("optuna", SEARCH, group="hydra/sweeper")
