"""The frozen evaluation bank: which questions every run on a corpus is asked.

Losses at different mask rates cannot be compared, so what a model is evaluated on never
depends on what it was trained with: the validation examples are masked once at fixed
rates, wholly by ``[MASK]``, under a seed of the bank's own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from bertexp import draws
from bertexp.evaluation.config import EvaluationConfig
from bertexp.evaluation.slices import SLICE_PREFIX, SLICES, Slicer
from bertexp.masking.config import MaskingConfig, ReplaceConfig
from bertexp.models.objective import Objective
from bertexp.tasks.base import Batch, Task
from bertexp.tokens.store import TokenStore

BANK_SEED = 20181011
ONLY_MASK = ReplaceConfig(mask=1.0, random=0.0, keep=0.0)
BATCH_SIZE = 64


@dataclass(frozen=True)
class Bank:
    """Frozen batches.

    Attributes:
        batches: by mask rate; under None where a task masks nothing.
        kinds: by mask rate, for every way in ``SLICES`` the number of the slice that each
            masked token is in, over all batches.
        documents: the document of each validation example, by the example's number.
        examples: how many of them the batches hold.
    """

    batches: dict[float | None, list[Batch]]
    kinds: dict[float | None, dict[str, np.ndarray]]
    documents: np.ndarray
    examples: int

    @property
    def fingerprint(self) -> str:
        """16 digits that change whenever a question or an answer does."""
        digest = hashlib.blake2b(digest_size=8)
        for rate, batches in self.batches.items():
            digest.update(str(rate).encode())
            for batch in batches:
                digest.update(batch.input_ids_BL.numpy().tobytes())
                for objective in batch.predictions:
                    digest.update(batch.labels(objective).numpy().tobytes())
        return digest.hexdigest()

    @property
    def yardsticks(self) -> dict[str, float]:
        """What can be reached without looking at the input, by the metric's name.

        For masked tokens the entropy of their distribution in the bank: no predictor that
        ignores the context has a lower loss, at any rate. For pairs a predictor that
        knows how often each label occurs.
        """
        found: dict[str, list[float]] = {}
        for batches in self.batches.values():
            for objective in batches[0].predictions:
                labels = torch.cat([batch.labels(objective) for batch in batches])
                share = torch.bincount(labels).double() / len(labels)
                entropy = -torch.special.xlogy(share, share).sum().item()
                prefix = "eval/" if objective == "mlm" else f"eval/{objective}_"
                found.setdefault(f"{prefix}loss", []).append(entropy)
                found.setdefault(f"{prefix}accuracy", []).append(share.max().item())
        return {name: float(np.mean(values)) for name, values in found.items()}


@dataclass(frozen=True)
class Answers:
    """What a model made of the questions at one rate: an entry for each, over all batches.

    Attributes:
        losses: by objective, in nats, ``float64``.
        hits: by objective, whether the likeliest answer is right.
    """

    losses: dict[str, np.ndarray]
    hits: dict[str, np.ndarray]


def build_bank(task: Task, tokens: Mapping[str, TokenStore], config: EvaluationConfig) -> Bank:
    """Return the bank of a task: questions about the validation split of ``tokens``.

    The training split only tells how frequent a token is, see ``Slicer``.
    """
    masks = "mlm" in task.objectives
    rates: list[float | None] = list(config.mask_probs) if masks else [None]
    slicer = Slicer(tokens["train"], task.tokenizer) if masks else None
    batches: dict[float | None, list[Batch]] = {}
    kinds: dict[float | None, dict[str, np.ndarray]] = {}
    for rate in rates:
        masking = MaskingConfig(prob=rate or 0.15, strategy="token", replace=ONLY_MASK)
        examples = task.examples(tokens["validation"], masking, BANK_SEED)
        state = draws.combine(draws.key("bank", BANK_SEED, 0), np.arange(len(examples)))
        chosen = np.argsort(state)[: config.max_examples]
        by_length = chosen[np.argsort(examples.lengths(0)[chosen], kind="stable")]
        parts = np.split(by_length, range(BATCH_SIZE, len(by_length), BATCH_SIZE))
        batches[rate] = [examples.batch(0, part) for part in parts]
        if slicer:
            parted = [slicer.kinds(batch) for batch in batches[rate]]
            kinds[rate] = {way: np.concatenate([part[way] for part in parted]) for way in SLICES}
    return Bank(batches, kinds, examples.documents(), len(chosen))


def evaluate(objective: Objective, bank: Bank, device: torch.device) -> dict[str, float]:
    """Return ``eval/*`` on the bank, see ``bank_metrics``, leaving the model in evaluation mode."""
    return bank_metrics(bank, answer(objective, bank, device))


@torch.no_grad()
def answer(objective: Objective, bank: Bank, device: torch.device) -> dict[float | None, Answers]:
    """Return a model's answers to the whole bank by rate, leaving it in evaluation mode."""
    objective.eval()
    return {rate: _answers(objective, batches, device) for rate, batches in bank.batches.items()}


def bank_metrics(bank: Bank, answers: Mapping[float | None, Answers]) -> dict[str, float]:
    """Return what the answers to a bank come to, by the metrics' names.

    ``eval/loss`` (nats) and ``eval/accuracy`` are means over the bank's rates, each rate
    counting the same, beside ``eval/loss@<rate>``; ``eval/perplexity`` is the
    exponential of ``eval/loss``. Pairs give ``eval/nsp_loss`` and ``eval/nsp_accuracy``,
    and a task without masks ``eval/loss`` equal to the former.

    Slices of ``eval/loss``, means over the rates as well, are named for the masked tokens they
    hold: ``eval/loss@rare``, ``@medium`` and ``@frequent`` by frequency in the training text,
    ``@start``, ``@middle`` and ``@end`` by place in the sequence, ``@words`` and ``@pieces``
    of words; ``Slicer`` draws the borders. One that has no token at some rate is left out.
    """
    by_rate = [_means(rate_answers) for rate_answers in answers.values()]
    mean = {name: float(np.mean([means[name] for means in by_rate])) for name in by_rate[0]}
    found: dict[str, float] = {}
    if "mlm_loss" in mean:
        found = {"eval/loss": mean["mlm_loss"], "eval/accuracy": mean["mlm_accuracy"]}
        found["eval/perplexity"] = perplexity(mean["mlm_loss"])
        for rate, means in zip(answers, by_rate, strict=True):
            found[f"eval/loss@{rate:g}"] = means["mlm_loss"]
        found |= _slice_losses(bank, answers)
    if "nsp_loss" in mean:
        found.setdefault("eval/loss", mean["nsp_loss"])
        found |= {"eval/nsp_loss": mean["nsp_loss"], "eval/nsp_accuracy": mean["nsp_accuracy"]}
    return found


def perplexity(loss: float) -> float:
    """Return the exponential of a mean loss in nats; infinite for a model that diverged."""
    with np.errstate(over="ignore"):
        return float(np.exp(loss))


def _answers(objective: Objective, batches: list[Batch], device: torch.device) -> Answers:
    losses: dict[str, list[torch.Tensor]] = {}
    hits: dict[str, list[torch.Tensor]] = {}
    for batch in batches:
        on_device = batch.to(device)
        for name, logits in objective.logits(on_device).items():
            labels = on_device.labels(name)
            loss = functional.cross_entropy(logits.float(), labels, reduction="none")
            losses.setdefault(name, []).append(loss)
            hits.setdefault(name, []).append(logits.argmax(-1) == labels)
    return Answers(
        {name: torch.cat(parts).double().cpu().numpy() for name, parts in losses.items()},
        {name: torch.cat(parts).cpu().numpy() for name, parts in hits.items()},
    )


def _means(answers: Answers) -> dict[str, float]:
    """Return the mean loss and accuracy of each objective."""
    losses = {f"{name}_loss": float(values.mean()) for name, values in answers.losses.items()}
    return losses | {f"{name}_accuracy": float(v.mean()) for name, v in answers.hits.items()}


def _slice_losses(bank: Bank, answers: Mapping[float | None, Answers]) -> dict[str, float]:
    """Return ``eval/loss@<slice>`` of every slice that has a token at every rate."""
    found = {}
    for way, names in SLICES.items():
        kinds = [bank.kinds[rate][way] for rate in answers]
        losses = [rate_answers.losses["mlm"] for rate_answers in answers.values()]
        counts_RS = np.stack([np.bincount(kind, minlength=len(names)) for kind in kinds])
        sums_RS = np.stack(
            [np.bincount(*pair, minlength=len(names)) for pair in zip(kinds, losses, strict=True)]
        )
        for index, name in enumerate(names):
            if counts_RS[:, index].all():
                mean = np.mean(sums_RS[:, index] / counts_RS[:, index])
                found[SLICE_PREFIX + name] = float(mean)
    return found
