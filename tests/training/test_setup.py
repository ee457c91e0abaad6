"""Device, precision and optimizer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from bertexp.config import Config
from bertexp.training.config import DEVICES
from bertexp.training.optimizers import build_optimizer
from bertexp.training.setup import build_accelerator, choose_device


def test_a_gpu_of_apples_is_used_only_where_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = {name: choose_device(name).type for name in DEVICES}
    assert found == {"auto": "cpu", "cpu": "cpu", "gpu": "mps", "mps": "mps"}


def test_a_job_inherits_no_precision_from_the_one_before(
    experiment_config: Callable[..., Config],
) -> None:
    torch.set_float32_matmul_precision("high")
    for precision, expected in (("bf16", "bf16"), ("fp32", "no"), ("bf16", "bf16")):
        config = experiment_config("hardware=cpu", f"hardware.precision={precision}")
        assert build_accelerator(config.hardware, []).mixed_precision == expected
        assert torch.get_float32_matmul_precision() == "highest"
    build_accelerator(experiment_config("hardware=cpu", "hardware.threads=1").hardware, [])
    assert torch.get_num_threads() == 1


def test_biases_and_normalisations_are_not_decayed(
    experiment_config: Callable[..., Config],
) -> None:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.LayerNorm(4))
    for parameter in model.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    overrides = ("optimizer.lr=0.5", "optimizer.weight_decay=0.2")
    build_optimizer(experiment_config(*overrides).optimizer, model).step()
    after = {name: float(weight.mean()) for name, weight in model.state_dict().items()}
    # Without a gradient only the decay is left: 1 - 0.5 * 0.2.
    matrices = dict.fromkeys(["0.weight", "1.weight"], pytest.approx(0.9))
    assert after == matrices | dict.fromkeys(["1.bias", "2.weight", "2.bias"], 1.0)


def test_the_optimizers_settings_arrive(experiment_config: Callable[..., Config]) -> None:
    overrides = ("optimizer.lr=0.5", "optimizer.betas=[0.7,0.8]", "optimizer.eps=0.01")
    optimizer = build_optimizer(experiment_config(*overrides).optimizer, nn.Linear(2, 2))
    for group in optimizer.param_groups:
        assert (group["lr"], group["betas"], group["eps"]) == (0.5, (0.7, 0.8), 0.01)
