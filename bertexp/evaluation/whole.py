"""The whole evaluation of a trained model: the bank, pseudo-perplexity and probes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bertexp.evaluation.bank import predict
from bertexp.evaluation.probes.measure import Probed, probe, probe_metrics
from bertexp.evaluation.pseudo_perplexity import choose_texts, pseudo_likelihood
from bertexp.objectives.base import Evaluated
from bertexp.objectives.learner import Learner

if TYPE_CHECKING:
    from bertexp.config import Config
    from bertexp.experiment.prepare import Data


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation finds.

    Attributes:
        found: on the bank.
        probed: the probes, layer by layer.
        metrics: all figures, by name.
    """

    found: list[Evaluated]
    probed: list[Probed]
    metrics: dict[str, float]


def evaluate_whole(
    config: Config, data: Data, learner: Learner, device: torch.device
) -> Evaluation:
    """Return all that is measured at the end of a run."""
    found = predict(learner, data.bank, device)
    metrics = data.bank.metrics(found)
    count, length = config.evaluation.pseudo_perplexity, config.task.max_length
    if "masked" in data.task.heads and count:
        texts = choose_texts(data.tokens["validation"], count)
        scored = pseudo_likelihood(learner.model, data.tokenizer, texts, length, device)
        if scored.perplexity is not None:
            metrics["eval/pseudo_perplexity"] = scored.perplexity
    bert = learner.model.bert
    probed = probe(bert, data.tokenizer, data.probes, config.evaluation, length, device)
    return Evaluation(found, probed, metrics | probe_metrics(probed))
