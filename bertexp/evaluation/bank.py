"""The frozen evaluation bank: which questions every run on a corpus is asked.

Losses at different mask rates cannot be compared, so what a model is evaluated on never
depends on what it was trained with: the validation examples are masked once at fixed
rates, wholly by ``[MASK]``, under a seed of the bank's own.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch

from bertexp import draws
from bertexp.evaluation.config import EvaluationConfig
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
        examples: how many validation examples they hold.
    """

    batches: dict[float | None, list[Batch]]
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


def build_bank(task: Task, tokens: TokenStore, config: EvaluationConfig) -> Bank:
    """Return the bank of a task on the validation split ``tokens``."""
    rates: list[float | None] = list(config.mask_probs) if "mlm" in task.objectives else [None]
    batches = {}
    for rate in rates:
        masking = MaskingConfig(prob=rate or 0.15, strategy="token", replace=ONLY_MASK)
        examples = task.examples(tokens, masking, BANK_SEED)
        state = draws.combine(draws.key("bank", BANK_SEED, 0), np.arange(len(examples)))
        chosen = np.argsort(state)[: config.max_examples]
        by_length = chosen[np.argsort(examples.lengths(0)[chosen], kind="stable")]
        parts = np.split(by_length, range(BATCH_SIZE, len(by_length), BATCH_SIZE))
        batches[rate] = [examples.batch(0, part) for part in parts]
    return Bank(batches, len(chosen))


@torch.no_grad()
def evaluate(objective: Objective, bank: Bank, device: torch.device) -> dict[str, float]:
    """Return ``eval/*`` on the bank, leaving the model in evaluation mode.

    ``eval/loss`` (nats) and ``eval/accuracy`` are means over the bank's rates, each rate
    counting the same, beside ``eval/loss@<rate>``; ``eval/perplexity`` is the
    exponential of ``eval/loss``. Pairs give ``eval/nsp_loss`` and ``eval/nsp_accuracy``,
    and a task without masks ``eval/loss`` equal to the former.
    """
    objective.eval()
    by_rate = [_rate_metrics(objective, batches, device) for batches in bank.batches.values()]
    mean = {name: float(np.mean([metrics[name] for metrics in by_rate])) for name in by_rate[0]}
    found: dict[str, float] = {}
    if "mlm_loss" in mean:
        found = {"eval/loss": mean["mlm_loss"], "eval/accuracy": mean["mlm_accuracy"]}
        found["eval/perplexity"] = math.exp(mean["mlm_loss"])
        for rate, metrics in zip(bank.batches, by_rate, strict=True):
            found[f"eval/loss@{rate:g}"] = metrics["mlm_loss"]
    if "nsp_loss" in mean:
        found.setdefault("eval/loss", mean["nsp_loss"])
        found |= {"eval/nsp_loss": mean["nsp_loss"], "eval/nsp_accuracy": mean["nsp_accuracy"]}
    return found


def _rate_metrics(
    objective: Objective, batches: list[Batch], device: torch.device
) -> dict[str, float]:
    """Return the mean loss and accuracy of each objective over ``batches``."""
    sums: dict[str, torch.Tensor | float] = {}
    for batch in batches:
        on_device = batch.to(device)
        for name, logits in objective.logits(on_device).items():
            labels = on_device.labels(name)
            loss = torch.nn.functional.cross_entropy(logits.float(), labels, reduction="sum")
            hits = (logits.argmax(-1) == labels).sum()
            sums[f"{name}_loss"] = sums.get(f"{name}_loss", 0.0) + loss.double()
            sums[f"{name}_accuracy"] = sums.get(f"{name}_accuracy", 0.0) + hits.double()
    counts = {
        name: sum(batch.predictions[name] for batch in batches) for name in batches[0].predictions
    }
    return {name: float(total) / counts[name.split("_")[0]] for name, total in sums.items()}
