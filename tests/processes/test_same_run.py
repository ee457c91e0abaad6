"""A run is the same run, by however many processes: its losses, its folder, its checkpoints.

So it is where each process keeps a part of the model, whose checkpoints are for any number.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertForMaskedLM


def test_the_run_is_that_of_one_process(
    place: Any,
    trained: Callable[..., str],
    in_two: dict[str, str],
    assert_same_run: Callable[..., None],
) -> None:
    # Of three batches each process has every other example; in the tests of torchrun and of
    # resuming it has whole ones, of two.
    one, two = trained("mlm_nsp", 3), in_two["mlm_nsp"]
    assert_same_run(one, two)
    assert len({line["step"] for line in place.lines(two) if "train/loss" in line}) == 20
    weights, others = (
        load_file(place.folder / name / "model/model.safetensors") for name in (one, two)
    )
    for name, weight in weights.items():
        torch.testing.assert_close(weight, others[name], atol=1e-4, rtol=0, msg=name)
    summary, other = place.summary(one), place.summary(two)
    assert summary["fingerprints"] == other["fingerprints"]
    assert summary["best"]["step"] == other["best"]["step"]
    for count in ("step", "examples", "tokens", "predicted_tokens"):
        assert summary["budget"][count] == other["budget"][count]
    files, more = (
        {str(path.relative_to(place.folder / name)) for path in (place.folder / name).rglob("*")}
        for name in (one, two)
    )
    assert files == more
    log = (place.folder / two / "bertexp.log").read_text()
    assert log.count("learning rate") == 1, "printed once"


@pytest.mark.parametrize("after", [1, 2])
def test_one_number_of_processes_is_resumed_by_another(
    place: Any,
    trained: Callable[..., str],
    in_two: dict[str, str],
    assert_same_run: Callable[..., None],
    after: int,
) -> None:
    whole, copy = trained("mlm", 2) if after == 2 else in_two["mlm_nsp"], f"resumed-in-{after}"
    place.resume(whole, copy, f"hardware.num_processes={after}")
    assert_same_run(copy, whole)


def test_a_model_in_parts_learns_what_a_whole_one_does(
    place: Any,
    in_two: dict[str, str],
    trained: Callable[..., str],
    assert_same_run: Callable[..., None],
) -> None:
    assert_same_run(in_two["mlm"], trained("mlm", 2))
    sharded = place.folder / in_two["mlm"]
    assert (sharded / "checkpoints" / "step-20" / "__1_0.distcp").exists(), "each wrote its part"
    for folder in ("model", "checkpoints/step-20"):
        BertForMaskedLM.from_pretrained(sharded / folder)


def test_parts_are_put_together_again(
    place: Any,
    in_two: dict[str, str],
    trained: Callable[..., str],
    assert_same_run: Callable[..., None],
) -> None:
    place.resume(in_two["mlm"], "whole", "hardware.sharded=false", "hardware.num_processes=1")
    assert_same_run("whole", trained("mlm", 2))


def test_a_whole_is_taken_apart(place: Any, assert_same_run: Callable[..., None]) -> None:
    """The model, and the modules that an objective trains beside it."""
    plugin = Path(__file__).parents[1] / "plugins" / "rtd_lab.py"
    task = (f"plugins=[{plugin}]", "task=rtd_lab", "task.objectives=[mlm,rtd_lab]")
    done = place.run("beside", *task, "trainer.gradient_accumulation_steps=2")
    assert done.code == 0, done.lines
    parts = ("hardware=fsdp", "hardware.device=cpu", "hardware.num_processes=2")
    place.resume("beside", "apart", *parts, "hardware.precision=fp32")
    assert_same_run("apart", "beside")
    for file in ("model/objectives.safetensors", "checkpoints/step-20/objectives.safetensors"):
        whole, parts = (load_file(place.folder / run / file) for run in ("beside", "apart"))
        torch.testing.assert_close(whole, parts, atol=1e-4, rtol=0)
