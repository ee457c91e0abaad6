"""A job's configuration is composed once, and is what Hydra composes of the job's overrides."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from bertexp.config import conf_dir
from bertexp.sweeps.config import register_search
from bertexp.sweeps.launcher import RemainingJobs


@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_a_job_gets_what_its_overrides_come_to(tmp_path: Path, is_elsewhere: bool) -> None:
    register_search()
    seen: list[tuple[DictConfig, DictConfig]] = []
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        loader: Any = GlobalHydra.instance().config_loader()
        sweep = ["masking.prob=0.1,0.4", f"hydra.sweep.dir={tmp_path}", "sweep=one"]
        config = loader.load_configuration("config", sweep, RunMode.MULTIRUN)

        def launch(jobs: list[list[str]], initial_job_idx: int) -> None:
            given = launcher.hydra_context.config_loader
            if is_elsewhere:  # a job in another process composes by itself
                given = pickle.loads(pickle.dumps(given))
            for job in jobs:
                pair = (given.load_sweep_config(config, job), loader.load_sweep_config(config, job))
                seen.append(pair)

        context = HydraContext(config_loader=loader, callbacks=None)  # type: ignore[arg-type]
        launcher: Any = SimpleNamespace(launch=launch, hydra_context=context)
        jobs = RemainingJobs(launcher, loader, config, ["seed=1", "sweep=one"], None)
        jobs.launch([["masking.prob=0.1"], ["masking.prob=0.4", "+size=smoke"]], 0)
    assert [made.hydra.sweep.subdir for made, _ in seen] == [
        "masking.prob=0.1",
        "masking.prob=0.4,+size=smoke",
    ]
    assert all(made == again for made, again in seen)
    assert seen[0][0].hydra.sweeper.total == 2
