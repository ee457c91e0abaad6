"""What a report remarks on a result that is worse than it could be."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bertexp.config import Config
from bertexp.experiment.results import before_training, remarks
from bertexp.training.saving import Saver

Losses = Sequence[float | None]


@pytest.fixture
def remarked(experiment_config: Callable[..., Config], tmp_path: Path) -> Callable[..., list[str]]:
    """Return a function that gives the remarks on losses at steps 0, 10, 20, and so on."""

    def remark(trained: Losses, evaluated: Losses, yardstick: float = 9.0) -> list[str]:
        model: Any = None
        saver = Saver(model, model, 128, tmp_path, experiment_config().trainer)
        lines: list[dict[str, Any]] = []
        for number, (training, loss) in enumerate(zip(trained, evaluated, strict=True)):
            lines += [{"step": 10 * number, "eval/loss": loss}]
            lines += [{"step": 10 * number, "train/loss": training}] if training else []
            if number and loss is not None:
                saver.offer(loss, 10 * number)
        loss = math.nan if evaluated[-1] is None else evaluated[-1]
        return remarks(lines, {"eval/loss": loss}, {"eval/loss": yardstick}, saver, "eval/loss")

    return remark


def test_overfitting_is_named_and_where_the_best_model_is(remarked: Any) -> None:
    falling = [None, 0.7, 0.6, 0.3, 0.1]
    (found,) = remarked(falling, [0.80, 0.70, 0.675, 0.71, 0.776])
    assert found == (
        "Overfitting: eval/loss rose from 0.675 at step 20 to 0.776, while train/loss fell from "
        "0.650 to 0.200. model/ is the model of the last step; the best is in checkpoints/step-20."
    )
    # Where training gets no better either, it is something else.
    (found,) = remarked([None, 0.7, 0.6, 0.9, 0.9], [0.80, 0.70, 0.675, 0.71, 0.776])
    assert found.startswith("eval/loss rose from 0.675 at step 20 to 0.776. model/ is ")
    # The noise of two evaluations is not remarked on.
    assert remarked(falling, [0.80, 0.70, 0.675, 0.68, 0.676]) == []


def test_worse_than_a_yardstick_or_than_at_the_start_is_remarked(remarked: Any) -> None:
    assert remarked([None, 7.0], [9.5, 5.8], yardstick=5.9) == []
    (found,) = remarked([None, 9.0], [9.5, 8.9], yardstick=5.9)
    assert found == (
        "No better than its yardstick: eval/loss is 8.900, and a predictor that does not look at "
        "the input has 5.900."
    )
    assert remarked([None, 4.0], [4.2, 4.5]) == [
        "No better than before training: eval/loss was 4.200, now 4.500."
    ]
    diverged = remarked([None, 4.0, 9.0], [4.2, 4.1, None])
    assert [line.split(":")[0] for line in diverged[:2]] == [
        "No better than its yardstick",
        "No better than before training",
    ]
    assert "the best is in checkpoints/step-10" in diverged[2]


def test_what_was_before_training_is_read_from_the_record() -> None:
    first = {"step": 0, "eval/loss": 8.3, "eval/perplexity": None, "train/tokens": 0}
    found = before_training([first, {"step": 10, "eval/loss": 7.0}])
    assert found["eval/loss"] == 8.3
    assert math.isnan(found.pop("eval/perplexity"))
    assert found.keys() == {"eval/loss"}
    # Of a run whose record begins later nothing is known.
    assert before_training([{"step": 10, "eval/loss": 7.0}]) == {}
    assert before_training([]) == {}
