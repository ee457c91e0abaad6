"""The loss of masked tokens over a large vocabulary, in little memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Logits that exist at the same time, whatever the mask rate: 32 MiB in float32; on a GPU 256 MiB
# (with 32 MiB, base on 256 x 128 tokens took 75 ms a step on an H100 instead of 63).
CHUNK_LOGITS = {"cpu": 1 << 23, "cuda": 1 << 26}
# Words whose logits a CPU computes at a time, so that they stay in its cache.
TILE_WORDS = 2048


def masked_loss(
    hidden_MD: Tensor,
    weight_VD: Tensor,
    bias_V: Tensor,
    labels_N: Tensor,
    weights_N: Tensor | None = None,
) -> Tensor:
    """Return the cross-entropy of ``hidden @ weight.T + bias``, summed over the predictions.

    The same as ``cross_entropy(linear(hidden, weight, bias), labels, reduction="sum")``, in nats,
    shape (). The gradients are computed with the loss, chunk by chunk, so that no more than
    ``CHUNK_LOGITS`` logits are ever there and none of them is computed or stored twice (the idea
    of Hsu et al. 2024, "Liger kernel"). It can be differentiated once. Rows of ``hidden_MD`` after
    the first N are not used. ``weights_N`` multiply the loss of each prediction.
    """
    loss: Tensor = _MaskedLoss.apply(hidden_MD, weight_VD, bias_V, labels_N, weights_N)  # type: ignore[no-untyped-call]
    return loss


class _MaskedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_MD: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor,
        labels_N: Tensor,
        weights_N: Tensor | None,
    ) -> Tensor:
        device = hidden_MD.device.type
        dtype = hidden_MD.dtype
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            vocabulary = _Vocabulary(weight_VD, bias_V, dtype)
            hidden_grad_MD = torch.zeros_like(hidden_MD, dtype=torch.float32)
            loss = torch.zeros((), device=hidden_MD.device)
            rows = max(1, CHUNK_LOGITS.get(device, CHUNK_LOGITS["cpu"]) // len(weight_VD))
            for part_MD, part_grad_MD in zip(
                hidden_MD.to(dtype).split(rows), hidden_grad_MD.split(rows), strict=True
            ):
                own_N = None if weights_N is None else weights_N[:rows]
                loss += vocabulary.add(part_MD, labels_N[:rows], own_N, part_grad_MD)
                labels_N = labels_N[rows:]
                weights_N = None if weights_N is None else weights_N[rows:]
        ctx.save_for_backward(
            hidden_grad_MD.to(hidden_MD.dtype), vocabulary.weight_grad_VD, vocabulary.bias_grad_V
        )
        return loss

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        hidden_MD, weight_VD, bias_V = ctx.saved_tensors
        return hidden_MD.mul_(scale), weight_VD.mul_(scale), bias_V.mul_(scale), None, None


class _Vocabulary:
    """The weights of the logits, cut into tiles of words, and their gradients.

    Matrix products are computed in ``dtype``, all else in float32.
    """

    def __init__(self, weight_VD: Tensor, bias_V: Tensor, dtype: torch.dtype) -> None:
        self._dtype = dtype
        words = TILE_WORDS if weight_VD.device.type == "cpu" else len(weight_VD)
        self.weight_grad_VD = torch.empty_like(weight_VD, memory_format=torch.contiguous_format)
        self.bias_grad_V = torch.zeros_like(bias_V)
        self._tiles = [
            tensor.split(words)
            for tensor in (
                weight_VD.to(dtype), bias_V.to(dtype), self.weight_grad_VD, self.bias_grad_V
            )
        ]  # fmt: skip
        self._empty = True

    def add(
        self,
        hidden_MD: Tensor,
        labels_N: Tensor,
        weights_N: Tensor | None,
        hidden_grad_MD: Tensor,
    ) -> Tensor:
        """Add the gradients of some rows, of which the first N have labels; return their loss."""
        count = len(labels_N)
        weights, biases, weight_grads, bias_grads = self._tiles
        tiles = []
        label_logit_N = torch.zeros(count, device=hidden_MD.device)
        first = 0
        for weight, bias in zip(weights, biases, strict=True):
            tile = _Tile(torch.addmm(bias, hidden_MD, weight.t()).float(), labels_N - first)
            label_logit_N += tile.label_logit_N
            tiles.append(tile)
            first += len(bias)
        top_MT = torch.cat([tile.top_M1 for tile in tiles], dim=1)
        total_MT = torch.cat([tile.total_M1 for tile in tiles], dim=1)
        log_total_M1 = (top_MT + total_MT.log()).logsumexp(1, keepdim=True)
        scale_MT = (top_MT - log_total_M1).exp()
        scale_MT[count:] = 0
        grads = zip(tiles, scale_MT.split(1, dim=1), weights, weight_grads, bias_grads, strict=True)
        for tile, scale_M1, weight, weight_grad, bias_grad in grads:
            logits_grad_MW = tile.gradient(scale_M1)
            if weights_N is not None:
                logits_grad_MW[:count] *= weights_N[:, None]
            bias_grad += logits_grad_MW.sum(0)
            logits_grad_MW = logits_grad_MW.to(self._dtype)
            self._add_product(weight_grad, logits_grad_MW.t(), hidden_MD, self._empty)
            self._add_product(hidden_grad_MD, logits_grad_MW, weight)
        self._empty = False
        if weights_N is not None:
            return weights_N @ (log_total_M1[:count, 0] - label_logit_N)
        return log_total_M1[:count].sum() - label_logit_N.sum()

    def _add_product(
        self, total: Tensor, left: Tensor, right: Tensor, is_first: bool = False
    ) -> None:
        if self._dtype == total.dtype:
            total.addmm_(left, right, beta=0 if is_first else 1)
        elif is_first:
            total.copy_(left @ right)
        else:
            total += left @ right


class _Tile:
    """The logits of some words, of which only what later steps need is kept.

    Attributes:
        top_M1: the largest logit of each row.
        total_M1: the sum of the exponentials of the logits, less ``top_M1``.
        label_logit_N: the logit of the label, 0 where the label is none of these words.
    """

    def __init__(self, logits_MW: Tensor, labels_N: Tensor) -> None:
        words = logits_MW.shape[1]
        self._is_here_N1 = ((labels_N >= 0) & (labels_N < words))[:, None]
        self._label_N1 = labels_N.clamp(0, words - 1)[:, None]
        found_N1 = logits_MW[: len(labels_N)].gather(1, self._label_N1)
        # A scalar in `where` is copied to a GPU, which is waited for.
        self.label_logit_N = found_N1.masked_fill(~self._is_here_N1, 0.0)[:, 0]
        self.top_M1 = logits_MW.amax(-1, keepdim=True)
        self._shares_MW = logits_MW.sub_(self.top_M1).exp_()
        self.total_M1 = self._shares_MW.sum(-1, keepdim=True)

    def gradient(self, scale_M1: Tensor) -> Tensor:
        """Return the gradient of the logits: probabilities, less 1 at the label."""
        labelled_NW = self._shares_MW.mul_(scale_M1)[: len(self._label_N1)]
        labelled_NW.scatter_add_(1, self._label_N1, -self._is_here_N1.float())
        return self._shares_MW
