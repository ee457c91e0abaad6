"""The whole evaluation of a trained model: the bank, pseudo-perplexity and probes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bertexp.evaluation.answers import Answers, answer, bank_metrics
from bertexp.evaluation.pseudo_perplexity import choose_texts, pseudo_likelihood
from bertexp.models.objective import Objective
from bertexp.probes.measure import Probed, probe, probe_metrics

if TYPE_CHECKING:
    from bertexp.config import Config
    from bertexp.data import Data


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation finds.

    Attributes:
        answers: to the bank.
        probed: the probes, layer by layer.
        metrics: all figures, by name.
    """

    answers: list[Answers]
    probed: list[Probed]
    metrics: dict[str, float]


def evaluate_whole(
    config: Config, data: Data, objective: Objective, device: torch.device
) -> Evaluated:
    """Return all that a model is asked at its end."""
    answers = answer(objective, data.bank, device)
    metrics = bank_metrics(data.bank, answers)
    count, length = config.evaluation.pseudo_perplexity, config.task.max_length
    if "mlm" in data.task.objectives and count:
        texts = choose_texts(data.tokens["validation"], count)
        scored = pseudo_likelihood(objective, data.tokenizer, texts, length, device)
        if scored.perplexity is not None:
            metrics["eval/pseudo_perplexity"] = scored.perplexity
    bert = objective.model.bert
    probed = probe(bert, data.tokenizer, data.probes, config.evaluation, length, device)
    return Evaluated(answers, probed, metrics | probe_metrics(probed))
