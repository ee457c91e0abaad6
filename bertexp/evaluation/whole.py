"""The whole evaluation of a trained model: the bank, and pseudo-perplexity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bertexp.evaluation.answers import Answers, answer, bank_metrics
from bertexp.evaluation.pseudo_perplexity import choose_texts, pseudo_likelihood
from bertexp.models.objective import Objective

if TYPE_CHECKING:
    from bertexp.config import Config
    from bertexp.data import Data


def evaluate_whole(
    config: Config, data: Data, objective: Objective, device: torch.device
) -> tuple[list[Answers], dict[str, float]]:
    """Return a model's answers to the bank and all its metrics, pseudo-perplexity included."""
    answers = answer(objective, data.bank, device)
    metrics = bank_metrics(data.bank, answers)
    count, length = config.evaluation.pseudo_perplexity, config.task.max_length
    if "mlm" in data.task.objectives and count:
        texts = choose_texts(data.tokens["validation"], count)
        scored = pseudo_likelihood(objective, data.tokenizer, texts, length, device)
        if scored.perplexity is not None:
            metrics["eval/pseudo_perplexity"] = scored.perplexity
    return answers, metrics
