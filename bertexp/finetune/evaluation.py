"""A fine-tuned model's metrics on validation data, and its predictions on test data."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bertexp import group
from bertexp.families.base import LABEL
from bertexp.files import write_text
from bertexp.finetune.config import BABYLM, OF_SCORES, LabelledConfig
from bertexp.finetune.labelled import LabelledData, LabelledExamples, loss
from bertexp.objectives.base import batched
from bertexp.objectives.learner import Learner

FOLDER = "predictions"
# The range of STS-B's scores.
SCORES = (0.0, 5.0)


def evaluate(
    learner: Learner, data: LabelledData, metrics: Sequence[str], device: torch.device
) -> dict[str, float]:
    """Return ``eval/loss`` and the metrics on the validation data.

    Those of further validation sets follow as ``eval/<metric>@<condition>``.
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
    """Return the metrics of always predicting the most common class; empty for scores."""
    examples = data.validation[""]
    assert examples.targets is not None
    assert data.train.targets is not None
    if not data.labels:
        return {}
    commonest = np.bincount(data.train.targets).argmax()
    predicted = np.full(len(examples), commonest)
    return {
        f"eval/{n}": value for n, value in measure(metrics, examples.targets, predicted).items()
    }


@torch.no_grad()
def predict(learner: Learner, examples: LabelledExamples, device: torch.device) -> Tensor:
    """Return the logits, ``float32`` of shape (examples, labels).

    The model is left in evaluation mode.
    """
    learner.eval()
    logits_NC = torch.empty(len(examples), learner.model.config.num_labels)
    for batch in batched(examples, np.arange(len(examples))):
        logits_BC = learner.logits(batch.to(device))[LABEL]
        logits_NC[torch.from_numpy(batch.example_ids)] = logits_BC.float().cpu()
    return logits_NC


def answers(logits_NC: Tensor) -> np.ndarray:
    logits = logits_NC.numpy()
    return logits[:, 0] if logits.shape[1] == 1 else logits.argmax(1)


def write_predictions(
    learner: Learner, data: LabelledData, config: LabelledConfig, folder: Path, device: torch.device
) -> list[Path]:
    """Write the predictions on the test data, in the format of GLUE's server.

    Each test set has a file ``predictions/<name>.tsv``, with a line for each example: its number
    from 0, and the name of the class or the score, which is clipped to 0 to 5 for STS-B. Tasks of
    BabyLM have ``predictions/finetune/<name>/predictions.json``, as its pipeline.
    """
    written = []
    for name, examples in data.test.items():
        predicted = answers(predict(learner, examples, device))
        if data.labels:
            shown = [data.labels[number] for number in predicted]
        else:
            kept = predicted.clip(*SCORES) if config.name == "stsb" else predicted
            shown = [f"{score:.3f}" for score in kept]
        if config.name in BABYLM:
            place, text = Path("finetune", name, "predictions.json"), in_babylm_form(name, shown)
        else:
            lines = ["index\tprediction", *(f"{n}\t{value}" for n, value in enumerate(shown))]
            place, text = Path(f"{name}.tsv"), "\n".join(lines)
        written.append(folder / FOLDER / place)
        if group.is_first():
            write_text(written[-1], text + "\n")
    return written


def in_babylm_form(task: str, labels: list[str]) -> str:
    """Return predictions as the challenge's pipeline collects them."""
    rows = [{"id": f"{task}_{n}", "pred": int(label)} for n, label in enumerate(labels)]
    return json.dumps({task: {"predictions": rows}})


def _accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    return float(np.mean(truth == predicted))


def _f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return the F1 of the second of two classes, or the mean over more classes (macro)."""
    from sklearn.metrics import f1_score

    binary = max(truth.max(), predicted.max()) < 2
    return float(
        f1_score(truth, predicted, average="binary" if binary else "macro", zero_division=0)
    )


def _matthews(truth: np.ndarray, predicted: np.ndarray) -> float:
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(truth, predicted))


def _pearson(truth: np.ndarray, predicted: np.ndarray) -> float:
    from scipy.stats import pearsonr

    return float(pearsonr(truth, predicted).statistic)


def _spearman(truth: np.ndarray, predicted: np.ndarray) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(truth, predicted).statistic)


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews": _matthews,
    "pearson": _pearson,
    "spearman": _spearman,
}


def measure(names: Sequence[str], truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Return metrics by name; higher is better, and undefined ones are NaN.

    ``truth`` and ``predicted`` are numbers of classes, or scores.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no correlation with what is the same everywhere
        if len(truth) < 2:
            return {n: math.nan if n in OF_SCORES else METRICS[n](truth, predicted) for n in names}
        return {name: METRICS[name](truth, predicted) for name in names}
