"""The default learning rate: by the model's size, and by where it starts from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from bertexp.config import Config
from bertexp.experiment.rates import fine_tuning_rate


@pytest.mark.parametrize(
    ("overrides", "rate"),
    [
        ([], 2.5e-3),
        (["model=mini"], 1e-3),
        (["model=small"], 5e-4),
        (["model.hidden_size=512"], 5e-4),
        (["model=base"], 1e-4),
        (["model=large"], 1e-4),
        (["model=pretrained", "model.pretrained=x"], 5e-5),
        (["model.pretrained=x", "tokenizer=pretrained"], 5e-5),
        (["model=base", "optimizer.lr=0.25"], 0.25),
        (["model=pretrained", "model.pretrained=x", "optimizer.lr=0.25"], 0.25),
        (["+experiment=notebook_mlm", "optimizer.lr=null", "model=tiny"], 2.5e-3),
    ],
)
def test_the_rate_follows_the_model_unless_it_is_set(
    experiment_config: Callable[..., Config], overrides: list[str], rate: float
) -> None:
    assert experiment_config(*overrides).optimizer.lr == rate


def test_fine_tuning_takes_small_models_faster() -> None:
    assert [fine_tuning_rate(width)[0] for width in (128, 512, 768)] == [3e-4, 3e-4, 3e-5]


def test_a_sweep_knows_its_jobs_whose_rate_is_recorded(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    small = ("+size=smoke", "dataset=synthetic", "tokenizer.vocab_size=256", "tracker=none",
        "hardware.threads=1", "evaluation.probes=[]")  # fmt: skip
    for done_already in (False, True):
        done = command(*small, "-m", "seed=0,1", "sweep=rates", folder=tmp_path)
        assert done.code == 0, done.lines
        assert ("2 done already" in done.output) == done_already
    run = tmp_path / "outputs" / "sweeps" / "rates" / "seed=0"
    assert OmegaConf.load(run / ".hydra" / "config.yaml").optimizer.lr == 2.5e-3
