"""A model in parts: the same losses, a model that anything loads, checkpoints for any number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
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


def test_a_whole_is_taken_apart(
    place: Any, trained: Callable[..., str], assert_same_run: Callable[..., None]
) -> None:
    one = trained("mlm", 2, 1)
    place.resume(one, "apart", "hardware.sharded=true", "hardware.num_processes=2")
    assert_same_run("apart", one)
