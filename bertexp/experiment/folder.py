"""A run's folder: the process that uses it, and the recorded configuration."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from bertexp import locks, plugins
from bertexp.experiment.summary import LOCK_FILE, SUMMARY_FILE
from bertexp.files import expanded, write_text
from bertexp.validation import UserError

RECORD = ".hydra"
CONFIG_FILE = Path(RECORD) / "config.yaml"
# What ``bertexp.evaluate`` adds.
EVALUATIONS = "evaluations"


def _unused(path: str) -> str:
    """Return a folder that does not exist yet: ``path``, else ``path-2``, ...

    Runs that a script starts at once begin in the same second. Of two that look within a few
    hundredths of one, the second is refused when it finds the folder locked.
    """
    others = (f"{path}-{number}" for number in itertools.count(2))
    return next(folder for folder in itertools.chain([path], others) if not os.path.exists(folder))


# ${unused:path} in the files of conf/, once for each command.
OmegaConf.register_new_resolver("unused", _unused, replace=True, use_cache=True)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Lock the folder for this process within a ``with`` block, or until the process ends.

    Raises:
        UserError: another process uses it.
    """
    try:
        # Readers hold it for a moment, see ``status``.
        lock = locks.acquire(folder / LOCK_FILE, seconds=2)
    except locks.Timeout as error:
        raise UserError(
            f"{folder}: is in use by another run{locks.holder(error)}; wait for its end, or "
            "choose another folder with hydra.run.dir."
        ) from error
    with lock:
        yield


def is_new(folder: Path) -> bool:
    """Whether a run's folder is empty except for the log that Hydra has opened."""
    return all(path.is_file() and path.stat().st_size == 0 for path in folder.iterdir())


def discard(folder: Path) -> None:
    """Remove the folder of a run that has hardly begun, and empty parents in ``outputs/``.

    A folder with any results, that of a run at work, and the working directory stay. It may be
    gone already.
    """
    if not folder.exists() or locks.is_held(folder / LOCK_FILE):
        return
    left = list(folder.iterdir())
    begun = {LOCK_FILE, RECORD, SUMMARY_FILE}
    if any(path.name not in begun and path.suffix != ".log" for path in left):
        return
    if Path.cwd().is_relative_to(folder):
        return
    shutil.rmtree(folder)
    remove_empty_parents(folder)


def remove_empty_parents(folder: Path) -> None:
    """Remove the parents that a removed folder leaves empty, up to ``outputs/``."""
    outputs = Path.cwd() / "outputs"
    for parent in folder.absolute().parents:
        if not parent.is_relative_to(outputs) or any(parent.iterdir()):
            break
        parent.rmdir()


def record_config(folder: Path, composed: DictConfig) -> None:
    """Write a run's configuration as Hydra would; the command line only if it is new.

    Hydra itself would write it before it is known whether the run may use the folder.
    """
    parts: dict[str, Any] = {"config": composed}
    if not (folder / RECORD / "hydra.yaml").exists():
        hydra_config: Any = HydraConfig.instance().cfg
        parts["overrides"] = hydra_config.hydra.overrides.task
        parts["hydra"] = hydra_config
    for name, part in parts.items():
        write_text(folder / RECORD / f"{name}.yaml", OmegaConf.to_yaml(part))


def recorded(folder: Path, name: str, *, with_plugins: bool = True) -> DictConfig | None:
    """Return the recorded ``config`` or ``hydra``, None if there is none; its plugins are loaded.

    Raises:
        UserError: it cannot be read, or a plugin cannot be loaded.
    """
    path = folder / RECORD / f"{name}.yaml"
    if not path.exists():
        return None
    try:
        loaded = OmegaConf.load(path)
    except Exception as error:
        raise UserError(f"{path}: cannot be read ({str(error).splitlines()[0]}).") from error
    if not isinstance(loaded, DictConfig):
        raise UserError(f"{path}: is no configuration.")
    if name == "config" and with_plugins and "plugins" in loaded:
        started = recorded(folder, "hydra")
        place = OmegaConf.select(started, "hydra.runtime.cwd") if started else None
        plugins.load(plugins.listed(loaded.plugins), Path(place) if place else None)
    return loaded


def load_plugins_of(named: str) -> None:
    """Load the plugins of a run, a checkpoint's run, or the runs of a sweep."""
    folder = expanded(named)
    for path in (folder, *folder.parents[:2], *sorted(folder.glob("*/"))):
        if (path / CONFIG_FILE).is_file():
            recorded(path, "config")


def started_by_sweep(folder: Path) -> bool:
    hydra_config = recorded(folder, "hydra")
    return hydra_config is not None and str(hydra_config.hydra.mode).endswith("MULTIRUN")
