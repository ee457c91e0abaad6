"""Initial weights that let a small BERT use its context from the first steps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# A head's initial attention logit at its offset; word vectors change it by about 1.5.
PEAK_LOGIT = 12.0


@torch.no_grad()
def attend_to_neighbours(bert: Any) -> None:
    """Initialize the heads of the first layer to attend to the tokens next to each position.

    With BERT's own initial weights attention is uniform, and a masked model spends its first
    thousands of steps at the unigram entropy before any head has found the neighbouring tokens. In
    trained BERTs such heads are the most common ones of the lower layers (Clark et al. 2019, "What
    does BERT look at?", section 3.1), and initial weights that resemble trained ones speed up
    training (Trockman and Kolter 2023, "Mimetic initialization of self-attention layers"). So here
    position embeddings are sinusoids, which a rotation turns into those of a neighbour (Vaswani et
    al. 2017, section 3.5), and head ``n`` starts with the rotation for offset -1, +1, -2, +2, ...
    Value matrices are orthogonal, so they preserve lengths. The architecture is still BERT's and
    all weights are trained. The other weights of ``bert``, a ``BertModel`` of ``transformers`` or
    a similar model, do not change.
    """
    config = bert.config
    attention: Any = bert.encoder.layer[0].attention
    frequencies_F = math.pi * (torch.arange(config.hidden_size // 2) + 0.5)
    frequencies_F /= config.hidden_size // 2
    positions = bert.embeddings.position_embeddings.weight
    _write_sinusoids(positions, frequencies_F, config.initializer_range * math.sqrt(2))

    heads = config.num_attention_heads
    size = config.hidden_size // heads
    for head in range(heads):
        offset = (head // 2 + 1) * (-1 if head % 2 == 0 else 1)
        rows = slice(head * size, (head + 1) * size)
        pairs = torch.arange(config.hidden_size // 2)[head::heads][: size // 2]
        query, key = _shift(frequencies_F, pairs, offset, size, config.hidden_size)
        gain = math.sqrt(2 * PEAK_LOGIT / math.sqrt(size))
        attention.self.query.weight[rows] = gain * query
        attention.self.key.weight[rows] = gain * key
    nn.init.orthogonal_(attention.self.value.weight)
    nn.init.orthogonal_(attention.output.dense.weight)


@torch.no_grad()
def start_at_frequencies(bias_V: Tensor, counts_V: np.ndarray) -> None:
    """Let the output bias begin at the logarithms of the tokens' frequencies.

    They are what any model learns first, and Adam moves a bias by the learning rate at a time.
    """
    frequencies_V = (counts_V + 1) / (counts_V + 1).sum()
    bias_V.copy_(torch.from_numpy(np.log(frequencies_V)))


@torch.no_grad()
def keep_sinusoids(weight_OD: Tensor) -> None:
    """Let a projection to a smaller width begin by keeping some dimensions.

    They are pairs of a sine and a cosine of evenly spaced frequencies, so that what
    ``attend_to_neighbours`` does for the smaller width holds for the projected positions too.
    """
    smaller, larger = weight_OD.shape
    pair_P = torch.arange(smaller // 2)
    kept_P = ((pair_P + 0.5) * larger / smaller - 0.5).round().long()
    weight_OD.zero_()
    for part in (0, 1):
        weight_OD[2 * pair_P + part, 2 * kept_P + part] = 1.0


def _write_sinusoids(weight_PD: Tensor, frequencies_F: Tensor, amplitude: float) -> None:
    angles_PF = torch.arange(len(weight_PD))[:, None] * frequencies_F
    waves = torch.stack([angles_PF.sin(), angles_PF.cos()], dim=-1).flatten(1)
    weight_PD[:, : waves.shape[1]] = amplitude * waves


def _shift(
    frequencies_F: Tensor, pairs: Tensor, offset: int, rows: int, width: int
) -> tuple[Tensor, Tensor]:
    """Return query and key weights of shape (rows, width) whose product peaks at ``offset``.

    The key has the sine and cosine of each chosen frequency; the query has them rotated by the
    angle of ``offset`` positions.
    """
    query, key = torch.zeros(rows, width), torch.zeros(rows, width)
    for row, pair in enumerate(pairs.tolist()):
        sine, cosine = 2 * pair, 2 * pair + 1
        angle = float(frequencies_F[pair]) * offset
        key[2 * row, sine] = key[2 * row + 1, cosine] = 1.0
        query[2 * row, sine] = query[2 * row + 1, cosine] = math.cos(angle)
        query[2 * row, cosine] = math.sin(angle)
        query[2 * row + 1, sine] = -math.sin(angle)
    return query, key
