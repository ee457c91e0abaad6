"""A model's answers to the bank's questions, and what they come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from bertexp.evaluation.bank import Bank, Questions
from bertexp.evaluation.slices import SLICE_PREFIX, SLICES
from bertexp.models.objective import Objective

CONFIDENCE_BINS = 10


@dataclass(frozen=True)
class Answers:
    """What a model made of some questions: an entry for each, over all batches.

    Attributes:
        asked: the questions.
        losses: in nats, ``float64``.
        hits: whether the likeliest answer is right.
    """

    asked: Questions
    losses: np.ndarray
    hits: np.ndarray

    @property
    def loss(self) -> float:
        """The mean loss."""
        return float(self.losses.mean())

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return float(self.hits.mean())


def evaluate(objective: Objective, bank: Bank, device: torch.device) -> dict[str, float]:
    """Return ``eval/*`` on the bank, see ``bank_metrics``, leaving the model in evaluation mode."""
    return bank_metrics(bank, answer(objective, bank, device))


@torch.no_grad()
def answer(objective: Objective, bank: Bank, device: torch.device) -> list[Answers]:
    """Return a model's answers to the whole bank, leaving it in evaluation mode."""
    objective.eval()
    return [_answers(objective, asked, device) for asked in bank.questions]


def bank_metrics(bank: Bank, answers: Sequence[Answers]) -> dict[str, float]:
    """Return what the answers to a bank come to, by the metrics' names.

    Masked tokens: ``eval/loss`` (nats) and ``eval/accuracy`` are means over the bank's rates,
    each counting the same, beside ``eval/loss@<rate>``; ``eval/perplexity`` is the exponential
    of ``eval/loss``. Slices of ``eval/loss``, means over the rates as well, are named for the
    masked tokens they hold: ``eval/loss@rare``, ``@medium`` and ``@frequent`` by frequency in the
    training text, ``@start``, ``@middle`` and ``@end`` by place in the sequence, ``@words`` and
    ``@pieces`` of words; ``Slicer`` draws the borders. One that has no token at some rate is left
    out.

    Pairs: ``eval/nsp_loss`` and ``eval/nsp_accuracy`` on the negatives that count (those of the
    task, in their shares, or all), and ``eval/nsp_calibration_error``; beside them
    ``eval/nsp_loss@<kind>`` and ``eval/nsp_accuracy@<kind>`` for every kind of negatives that the
    bank has, half of the pairs following each other, and what trivial features reach there, see
    ``shortcut_accuracies``.
    A task without masks has an ``eval/loss`` equal to ``eval/nsp_loss``.
    """
    masked = [found for found in answers if found.asked.objective == "mlm"]
    pairs = [found for found in answers if found.asked.objective == "nsp"]
    metrics = _masked_metrics(masked) if masked else {}
    if pairs:
        metrics |= _pair_metrics(pairs) | bank.shortcuts
        metrics.setdefault("eval/loss", metrics["eval/nsp_loss"])
    return metrics


def perplexity(loss: float) -> float:
    """Return the exponential of a mean loss in nats; infinite for a model that diverged."""
    with np.errstate(over="ignore"):
        return float(np.exp(loss))


def calibration_error(confidences: np.ndarray, hits: np.ndarray, weights: np.ndarray) -> float:
    """Return the expected calibration error of answers to questions with two answers.

    The mean distance between confidence and accuracy over ten bins of confidence between 0.5
    and 1, each counting by the weight in it (Guo et al. 2017, "On calibration of modern
    neural networks", equation 3).

    Args:
        confidences: the probability of the answer that was given.
        hits: whether it is right.
        weights: what each question counts.
    """
    bins = ((confidences - 0.5) * 2 * CONFIDENCE_BINS).astype(np.int64)
    gaps = np.bincount(bins.clip(0, CONFIDENCE_BINS - 1), weights * (confidences - hits))
    return float(np.abs(gaps).sum() / weights.sum())


def _answers(objective: Objective, asked: Questions, device: torch.device) -> Answers:
    losses, hits = [], []
    for batch in asked.batches:
        on_device = batch.to(device)
        logits = objective.logits(on_device)[asked.objective].float()
        labels = on_device.labels(asked.objective)
        losses.append(functional.cross_entropy(logits, labels, reduction="none"))
        hits.append(logits.argmax(-1) == labels)
    return Answers(asked, torch.cat(losses).double().cpu().numpy(), torch.cat(hits).cpu().numpy())


def _masked_metrics(answers: Sequence[Answers]) -> dict[str, float]:
    loss = float(np.mean([found.loss for found in answers]))
    accuracy = float(np.mean([found.accuracy for found in answers]))
    metrics = {"eval/loss": loss, "eval/accuracy": accuracy, "eval/perplexity": perplexity(loss)}
    metrics |= {f"eval/loss@{found.asked.name}": found.loss for found in answers}
    for way, names in SLICES.items():
        slices = [found.asked.slices[way] for found in answers]
        counts_RS = np.stack([np.bincount(s, minlength=len(names)) for s in slices])
        losses = (found.losses for found in answers)
        sums_RS = np.stack(
            [np.bincount(*pair, minlength=len(names)) for pair in zip(slices, losses, strict=True)]
        )
        for index, name in enumerate(names):
            if counts_RS[:, index].all():
                mean = np.mean(sums_RS[:, index] / counts_RS[:, index])
                metrics[SLICE_PREFIX + name] = float(mean)
    return metrics


def _pair_metrics(answers: Sequence[Answers]) -> dict[str, float]:
    weights = [found.asked.weight for found in answers]
    # Of two answers the given one has the right one's probability, or the rest.
    right = [np.exp(-found.losses) for found in answers]
    confidences = np.concatenate([np.maximum(chance, 1 - chance) for chance in right])
    each = [np.full(len(p), w / len(p)) for p, w in zip(right, weights, strict=True)]
    hits = np.concatenate([found.hits for found in answers])
    metrics = {
        "eval/nsp_loss": float(np.average([found.loss for found in answers], weights=weights)),
        "eval/nsp_accuracy": float(
            np.average([found.accuracy for found in answers], weights=weights)
        ),
        "eval/nsp_calibration_error": calibration_error(confidences, hits, np.concatenate(each)),
    }
    for found in answers:
        metrics[f"eval/nsp_loss@{found.asked.name}"] = found.loss
        metrics[f"eval/nsp_accuracy@{found.asked.name}"] = found.accuracy
    return metrics
