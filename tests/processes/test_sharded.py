"""A model in parts: the same losses, a model that anything loads, checkpoints for any number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertForMaskedLM

SHARDED = ("hardware=fsdp", "hardware.device=cpu", "hardware.num_processes=2")


@pytest.fixture(scope="module")
def sharded(place: Any) -> Path:
    done = place.run("sharded", *SHARDED, "trainer.gradient_accumulation_steps=2")
    assert done.code == 0, done.lines
    return place.folder / "sharded"


def test_a_model_in_parts_learns_what_a_whole_one_does(
    place: Any, sharded: Path, trained: Callable[..., str], assert_same_run: Callable[..., None]
) -> None:
    assert_same_run(sharded.name, trained("mlm", 2, 1))
    assert (sharded / "checkpoints" / "step-20" / "__1_0.distcp").exists(), "each wrote its part"
    for folder in ("model", "checkpoints/step-20"):
        BertForMaskedLM.from_pretrained(sharded / folder)


def test_parts_are_put_together_again(
    place: Any, sharded: Path, trained: Callable[..., str], assert_same_run: Callable[..., None]
) -> None:
    place.resume(sharded.name, "whole", "hardware.sharded=false", "hardware.num_processes=1")
    assert_same_run("whole", trained("mlm", 2, 1))


def test_a_whole_is_taken_apart(place: Any, assert_same_run: Callable[..., None]) -> None:
    """The model, and the modules that an objective trains beside it."""
    plugin = Path(__file__).parents[1] / "plugins" / "rtd_lab.py"
    task = (f"plugins=[{plugin}]", "task=rtd_lab", "task.objectives=[mlm,rtd_lab]")
    done = place.run("beside", *task, "trainer.gradient_accumulation_steps=2")
    assert done.code == 0, done.lines
    place.resume("beside", "apart", "hardware.sharded=true", "hardware.num_processes=2")
    assert_same_run("apart", "beside")
    for file in ("model/objectives.safetensors", "checkpoints/step-20/objectives.safetensors"):
        whole, parts = (load_file(place.folder / run / file) for run in ("beside", "apart"))
        torch.testing.assert_close(whole, parts, atol=1e-4, rtol=0)
