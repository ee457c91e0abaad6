"""A run is the same run, by however many processes: its losses, its folder, its checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load_file


def test_the_run_is_that_of_one_process(
    place: Any, trained: Callable[..., str], assert_same_run: Callable[..., None]
) -> None:
    # Of three batches each process has every other example; in the tests of torchrun and of
    # resuming it has whole ones, of two.
    one, two = (trained("mlm_nsp", 3, processes) for processes in (1, 2))
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


@pytest.mark.parametrize(
    ("task", "accumulation", "before", "after"), [("mlm", 2, 1, 2), ("mlm_nsp", 3, 2, 1)]
)
def test_one_number_of_processes_is_resumed_by_another(
    place: Any,
    trained: Callable[..., str],
    assert_same_run: Callable[..., None],
    task: str,
    accumulation: int,
    before: int,
    after: int,
) -> None:
    whole, copy = trained(task, accumulation, before), f"from-{before}-to-{after}"
    place.resume(whole, copy, f"hardware.num_processes={after}")
    assert_same_run(copy, whole)
