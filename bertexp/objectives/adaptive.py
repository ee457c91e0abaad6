"""How well a model predicts each token while it trains, for masking that follows it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from bertexp.masking.config import AdaptiveKeys
from bertexp.objectives.masked_loss import Losses
from bertexp.objectives.vocabulary_loss import SCALE, sums_by_token

# The share of the previous weight that an update keeps, and the lowest weight: a rate of 0.005
# where the mean is 0.15.
KEPT, LOWEST = 0.2, 1 / 30


class AdaptiveRates(nn.Module):
    """The weights by which tokens are masked, and the losses that the next update will use.

    Buffers, so that checkpoints have them. The weights are those of Edman and Fraser 2025 (the
    code that they published): ``KEPT`` of the weight before, the rest the difficulty of the token.
    That is the share of its predictions that were wrong, with one more that is half right; or its
    mean loss, with one more that is a uniform guess, over the loss of a uniform guess. What
    differs: a token that was not predicted since the last update keeps its weight, where theirs
    moves to one half; and their losses are scaled to the lowest and highest of all tokens.

    Attributes:
        keys: those of the phase that is trained; None if its rates do not adapt.
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
        table_V: np.ndarray = self.weights_V.cpu().numpy().copy()
        return table_V
