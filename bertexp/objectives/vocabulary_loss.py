"""The loss of objectives that predict over the vocabulary, with what ``task.loss.*`` adds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bertexp import group
from bertexp.data.tokens.store import TokenStore
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.objectives.batch import Target
from bertexp.objectives.config import LossConfig
from bertexp.objectives.masked_loss import Losses, Terms, masked_loss

CROSS_ENTROPY, Z_LOSS = "cross_entropy", "z_loss"
# See ``sums_by_token``. A larger loss, or NaN, counts as LARGEST.
SCALE, LARGEST = 1 << 16, 1000.0


class Observer(Protocol):
    """Learns the loss of each prediction in training."""

    def add(self, labels_N: Tensor, found: Losses) -> None: ...


def logged_parts(name: str, config: LossConfig) -> list[str]:
    """Return the names of what ``vocabulary_losses`` returns beside the loss, to be logged."""
    parts = [CROSS_ENTROPY] * bool(config.changed) + [Z_LOSS] * bool(config.z_loss)
    return [f"{name}/{part}" for part in parts]


def vocabulary_losses(
    name: str,
    hidden_MD: Tensor,
    weight_VD: Tensor,
    bias_V: Tensor,
    target: Target,
    config: LossConfig,
    observers: Sequence[Observer] = (),
) -> dict[str, Tensor]:
    """Return the loss of a target, summed over its predictions, and parts of it to be logged.

    ``<name>/cross_entropy`` is the loss as if ``task.loss`` had its defaults, so that runs with
    different ones can be compared by it; ``<name>/z_loss`` is the share of the z-loss.
    ``observers`` learn the loss of each prediction.
    """
    weights_N, by_token_N = target.weights_N, target.token_weights_N
    if by_token_N is not None:
        weights_N = by_token_N if weights_N is None else weights_N * by_token_N
    terms = Terms(config.z_loss, config.label_smoothing)
    found = masked_loss(hidden_MD, weight_VD, bias_V, target.labels_N, weights_N, terms)
    for each in observers:
        each.add(target.labels_N, found)
    parts = {}
    for part in logged_parts(name, config):
        if part.endswith(Z_LOSS):
            parts[part] = _summed(config.z_loss * found.log_totals_N.square(), weights_N)
        else:
            parts[part] = _summed(found.each_N, target.weights_N)
    return {name: found.total} | parts


def _summed(values_N: Tensor, weights_N: Tensor | None) -> Tensor:
    return values_N.sum() if weights_N is None else weights_N @ values_N


def sums_by_token(labels_N: Tensor, values_N: Tensor, vocab_size: int) -> Tensor:
    """Return the count and the sum of the values of each label, over all processes, shape (2, V).

    Sums are integers, in units of 1 / ``SCALE``, so that neither the order of additions nor the
    number of processes matters.
    """
    values_N = values_N.nan_to_num(LARGEST, LARGEST).clamp(0, LARGEST)
    sums_2V = torch.zeros((2, vocab_size), dtype=torch.int64, device=labels_N.device)
    sums_2V[0].index_add_(0, labels_N, torch.ones_like(labels_N))
    sums_2V[1].index_add_(0, labels_N, (values_N * SCALE).round().long())
    group.add_up(sums_2V)
    return sums_2V


def token_weights(tokens: TokenStore, tokenizer: Tokenizer, exponent: float) -> Tensor | None:
    """Return the weights of predictions by token (``float32``), None for 1.

    A token that is not in the training text has the weight of one that occurs once.
    """
    if not exponent:
        return None
    counts_V = np.where(tokenizer.is_special_V, 0, tokens.counts(tokenizer.vocab_size))
    weights_V = np.maximum(counts_V, 1) ** -exponent
    mean = (weights_V * counts_V).sum() / max(counts_V.sum(), 1)
    return torch.from_numpy(weights_V / mean).float()
