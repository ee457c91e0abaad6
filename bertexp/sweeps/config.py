"""``hydra/sweeper=optuna``.

It is in Python because Optuna's own plugin for Hydra, if it is installed, stores an entry of this
name, which no file can replace.
"""

from __future__ import annotations

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

SEARCH = {
    "_target_": "hydra_plugins.bertexp_sweepers.SearchSweeper",
    "_recursive_": False,
    # Values or intervals by key, as in the grid's params.
    "params": None,
    # The number of jobs.
    "n_trials": 20,
    # The number of jobs drawn at a time; with hydra/launcher=joblib they run at a time.
    "n_jobs": 1,
    # One of Optuna's samplers, with its arguments. With a seed the same command draws the same
    # jobs, so that a search can be resumed.
    "sampler": {"_target_": "optuna.samplers.TPESampler", "seed": 0},
}


def register_search() -> None:
    """Make ``hydra/sweeper=optuna`` choose the search of this package."""
    Plugins.instance()  # lets that plugin register itself first
    ConfigStore.instance().store("optuna", SEARCH, group="hydra/sweeper")
