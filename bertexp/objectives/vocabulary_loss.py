"""The loss of objectives that predict over the vocabulary, and what adapts to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from bertexp import group
from bertexp.data.tokens.store import TokenStore, count_tokens
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.masking.config import AdaptiveKeys
from bertexp.objectives.batch import Target
from bertexp.objectives.config import LossConfig
from bertexp.objectives.masked_loss import Losses, Terms, masked_loss

CROSS_ENTROPY, Z_LOSS = "cross_entropy", "z_loss"
# See ``sums_by_token``. A larger loss, or NaN, counts as LARGEST.
SCALE, LARGEST = 1 << 16, 1000.0
# The share of the previous weight that an update keeps, and the lowest weight: a rate of 0.005
# where the mean is 0.15.
KEPT, LOWEST = 0.2, 1 / 30


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
    if observers:
        labels_N = target.labels_N
        if target.weights_N is not None:
            # Places that are filled up, see ``positions.filled``, are of no token.
            labels_N = labels_N.masked_fill(target.weights_N == 0, len(bias_V))
        for each in observers:
            each.add(labels_N, found)
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

    The label ``vocab_size`` is not counted.
    Sums are integers, in units of 1 / ``SCALE``, so that neither the order of additions nor the
    number of processes matters.
    """
    values_N = values_N.nan_to_num(LARGEST, LARGEST).clamp(0, LARGEST)
    sums_2W = torch.zeros((2, vocab_size + 1), dtype=torch.int64, device=labels_N.device)
    sums_2W[0].index_add_(0, labels_N, torch.ones_like(labels_N))
    sums_2W[1].index_add_(0, labels_N, (values_N * SCALE).round().long())
    group.add_up(sums_2W)
    return sums_2W[:, :vocab_size]


def token_weights(tokens: TokenStore, tokenizer: Tokenizer, exponent: float) -> Tensor | None:
    """Return the weights of predictions by token (``float32``), None for 1.

    A token that is not in the training text has the weight of one that occurs once.
    """
    if not exponent:
        return None
    counts_V = count_tokens(tokens, tokenizer)
    weights_V = np.maximum(counts_V, 1) ** -exponent
    mean = (weights_V * counts_V).sum() / max(counts_V.sum(), 1)
    return torch.from_numpy(weights_V / mean).float()


class AdaptiveRates(nn.Module):
    """The weights by which tokens are masked, and the losses that the next update will use.

    Buffers, so that checkpoints have them. The weights are those of Edman and Fraser 2025 (the
    code that they published): ``KEPT`` of the weight before, the rest the difficulty of the token.
    That is the share of its predictions that were wrong, with one more that is half right; or its
    mean loss, with one more that is a uniform guess, over the loss of a uniform guess. What
    differs: a token that was not predicted since the last update keeps its weight, where theirs
    moves to one half; and their losses are scaled to the lowest and highest of all tokens.

    ``keys`` are those of the phase that is trained; None if its rates do not adapt.
    """

    counts_V: Tensor
    sums_V: Tensor
    weights_V: Tensor

    def __init__(self, vocab_size: int, keys: AdaptiveKeys | None = None) -> None:
        super().__init__()
        self.keys = keys
        self.register_buffer("counts_V", torch.zeros(vocab_size, dtype=torch.int64))
        self.register_buffer("sums_V", torch.zeros(vocab_size, dtype=torch.int64))
        self.register_buffer("weights_V", torch.ones(vocab_size))

    @property
    def every(self) -> int:
        """Steps between two updates."""
        assert self.keys is not None
        return self.keys.every

    @torch.no_grad()
    def add(self, labels_N: Tensor, found: Losses) -> None:
        """Add a batch's predictions; all processes take part, and have the same sums afterwards."""
        assert self.keys is not None
        by_loss = self.keys.follows == "loss"
        values_N = found.each_N if by_loss else (~found.hits_N).float()
        new_2V = sums_by_token(labels_N, values_N, len(self.counts_V))
        self.counts_V += new_2V[0]
        self.sums_V += new_2V[1]

    @torch.no_grad()
    def update(self) -> None:
        """Move the weights of the tokens that were predicted, and reset the sums."""
        assert self.keys is not None
        by_loss = self.keys.follows == "loss"
        guess = math.log(len(self.weights_V)) if by_loss else 1.0
        before = guess if by_loss else 0.5
        mean_V = (self.sums_V / SCALE + before) / (self.counts_V + 1)
        moved_V = KEPT * self.weights_V + (1 - KEPT) * (mean_V / guess).clamp(max=1)
        weights_V = torch.where(self.counts_V > 0, moved_V.clamp(min=LOWEST), self.weights_V)
        self.weights_V.copy_(weights_V)
        self.counts_V.zero_()
        self.sums_V.zero_()

    def table(self) -> np.ndarray:
        return self.weights_V.cpu().numpy().copy()
