"""What a fine-tuned model is worth on its validation data, and what it says of the test data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bertexp import group
from bertexp.files import write_text
from bertexp.finetune.config import LabelledConfig
from bertexp.finetune.labelled import LabelledData
from bertexp.finetune.metrics import measure
from bertexp.finetune.objective import loss, predict
from bertexp.objectives.learner import Learner

FOLDER = "predictions"
# Of STS-B: scores lie between.
SCORES = (0.0, 5.0)


def judge(
    learner: Learner,
    data: LabelledData,
    metrics: Sequence[str],
    device: torch.device,
) -> dict[str, float]:
    """Return ``eval/loss`` and the metrics on the validation data.

    Where there are several validation sets, those of the others follow as
    ``eval/<metric>@<condition>``.
    """
    found: dict[str, float] = {}
    for condition, examples in data.validation.items():
        assert examples.targets is not None
        logits_NC = predict(learner, examples, device)
        total = loss(logits_NC, torch.from_numpy(examples.targets)).item()
        figures = {"loss": total / len(examples)}
        figures |= measure(metrics, examples.targets, answers(logits_NC))
        suffix = f"@{condition}" if condition else ""
        found |= {f"eval/{name}{suffix}": value for name, value in figures.items()}
    return found


def yardsticks(data: LabelledData, metrics: Sequence[str]) -> dict[str, float]:
    """Return the metrics of whoever always says the commonest class; nothing for scores."""
    examples = data.validation[""]
    assert examples.targets is not None
    assert data.train.targets is not None
    if not data.labels:
        return {}
    commonest = np.bincount(data.train.targets).argmax()
    said = np.full(len(examples), commonest)
    return {f"eval/{n}": value for n, value in measure(metrics, examples.targets, said).items()}


def answers(logits_NC: Tensor) -> np.ndarray:
    """Return the likeliest class, or the score, of every example."""
    logits = logits_NC.numpy()
    return logits[:, 0] if logits.shape[1] == 1 else logits.argmax(1)


def write_predictions(
    learner: Learner,
    data: LabelledData,
    config: LabelledConfig,
    folder: Path,
    device: torch.device,
) -> list[Path]:
    """Write what the model says of the test data, in the form GLUE's server takes.

    A file for each test set, ``predictions/<name>.tsv``: a line for each example with its number
    from 0 and the class by name or the score, which for STS-B is kept within 0 to 5.
    """
    written = []
    for name, examples in data.test.items():
        said = answers(predict(learner, examples, device))
        if data.labels:
            shown = [data.labels[number] for number in said]
        else:
            kept = said.clip(*SCORES) if config.name == "stsb" else said
            shown = [f"{score:.3f}" for score in kept]
        lines = ["index\tprediction", *(f"{n}\t{value}" for n, value in enumerate(shown))]
        written.append(folder / FOLDER / f"{name}.tsv")
        if group.is_first():
            write_text(written[-1], "\n".join(lines) + "\n")
    return written
