"""The bound on the likelihood of text that a masked model gives (Sahoo et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.nn import functional

from bertexp import metrics
from bertexp.data.cache import fingerprint
from bertexp.evaluation import EVALUATORS
from bertexp.evaluation.evaluator import Evaluator, Source
from bertexp.families.base import MASKED
from bertexp.objectives.base import Reference
from bertexp.objectives.batch import Batch
from bertexp.objectives.learner import Learner
from bertexp.objectives.mlm import least_losses, word_numbers

NAME = "eval/elbo"
# The middles of ten equal parts of all rates.
RATES = tuple(round(0.05 + 0.1 * part, 2) for part in range(10))
metrics.register(
    NAME,
    lower_is_better=True,
    unit="nats/token",
    low=0.0,
    meaning="upper bound on the negative log likelihood per token",
)


@EVALUATORS.register("elbo")
class Elbo(Evaluator):
    """``eval/elbo``: the mean over all mask rates of the mean loss of masked tokens, in nats.

    With each token masked with probability t, the integral over t from 0 to 1 of 1 / t times the
    expected loss of the masked tokens bounds a text's negative log likelihood (Sahoo et al. 2024,
    equation 10). A share t of the tokens is masked, so per token that is the integral of their
    mean loss; here by the midpoint rule at ten rates, each on a tenth of the bank's validation
    examples.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.batches: list[list[Batch]] = []
        if MASKED in source.task.heads:
            most = source.config.max_examples
            self.batches = [
                source.masked(NAME, rate, slice(part, most, len(RATES)))
                for part, rate in enumerate(RATES)
            ]
        ids = [batch.input_ids_BL.tolist() for batches in self.batches for batch in batches]
        if ids:
            self.reference = Reference(
                optimum=self._optimum(), fingerprints={NAME: fingerprint(ids)}
            )

    @torch.no_grad()
    def measure(self, learner: Learner, device: torch.device) -> Iterator[tuple[str, float]]:
        losses = [self._loss(learner, batches, device) for batches in self.batches if batches]
        if losses:
            yield NAME, float(np.mean(losses))

    def _loss(self, learner: Learner, batches: list[Batch], device: torch.device) -> float:
        learner.eval()
        total, count = 0.0, 0
        for batch in (each.to(device) for each in batches):
            target = batch.targets[NAME]
            logits_NV = learner.masked_logits(batch)[target.used][: len(target)].float()
            total += float(functional.cross_entropy(logits_NV, target.labels_N, reduction="sum"))
            count += len(target)
        return total / max(count, 1)

    def _optimum(self) -> dict[str, float]:
        language, tokenizer = self.source.language, self.source.tokenizer
        if language is None or (words_V := word_numbers(tokenizer, language)) is None:
            return {}
        losses = [
            np.concatenate([least_losses(each, NAME, words_V, language) for each in batches])
            for batches in self.batches
            if batches
        ]
        return {NAME: float(np.mean([each.mean() for each in losses]))}
