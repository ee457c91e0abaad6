"""The loss of masked tokens over a large vocabulary, in little memory."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from bertexp.families.compiling import Compilable

# Logits that exist at the same time, whatever the mask rate: 32 MiB in float32; on a GPU 256 MiB
# (with 32 MiB, base on 256 x 128 tokens took 75 ms a step on an H100 instead of 63).
CHUNK_LOGITS = {"cpu": 1 << 23, "cuda": 1 << 26}
# Words whose logits a CPU computes at a time, so that they stay in its cache.
TILE_WORDS = 2048
# In half precision a GPU's fastest products take multiples of 8 words, which BERT's 30,522 are not.
MULTIPLES = {"cuda": 64}


class Losses(NamedTuple):
    """The loss of masked tokens.

    Attributes:
        total: what is minimised, summed over the predictions, shape ().
        each_N: the plain cross-entropy of each prediction in nats, without a gradient.
        log_totals_N: the logarithm of the sum of the exponentials of each prediction's logits,
            log Z, without a gradient.
        hits_N: whether no other word has a larger logit than the label.
    """

    total: Tensor
    each_N: Tensor
    log_totals_N: Tensor
    hits_N: Tensor


class Terms(NamedTuple):
    """What is added to the cross-entropy of each prediction.

    Attributes:
        z_loss: the coefficient of log^2 Z, see ``Losses``; its gradient by a logit is its
            probability times 2 * z_loss * log Z, so it takes no second pass over the vocabulary.
        label_smoothing: the share of a label that is spread evenly over all words.
    """

    z_loss: float = 0.0
    label_smoothing: float = 0.0


PLAIN = Terms()


@Compilable
def masked_loss(
    hidden_MD: Tensor,
    weight_VD: Tensor,
    bias_V: Tensor,
    labels_N: Tensor,
    weights_N: Tensor | None = None,
    terms: Terms = PLAIN,
) -> Losses:
    """Return the cross-entropy of ``hidden @ weight.T + bias``, summed over the predictions.

    The same as ``cross_entropy(linear(hidden, weight, bias), labels, reduction="sum")``, in nats.
    The gradients are computed with the loss, chunk by chunk, so that no more than
    ``CHUNK_LOGITS`` logits are ever there and none of them is computed or stored twice (the idea
    of Hsu et al. 2024, "Liger kernel"). It can be differentiated once. Rows of ``hidden_MD`` after
    the first N are not used. ``weights_N`` multiply each prediction's loss, with its ``terms``.
    """
    given = (hidden_MD, weight_VD, bias_V, labels_N, weights_N, terms)
    return Losses(*_MaskedLoss.apply(*given))  # type: ignore[no-untyped-call]


class _MaskedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_MD: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor,
        labels_N: Tensor,
        weights_N: Tensor | None,
        terms: Terms,
    ) -> Losses:
        device = hidden_MD.device.type
        dtype = hidden_MD.dtype
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            vocabulary = _Vocabulary(weight_VD, bias_V, dtype, terms)
            parts = []
            hidden_grad_MD = torch.zeros_like(hidden_MD, dtype=torch.float32)
            loss = torch.zeros((), device=hidden_MD.device)
            rows = max(1, CHUNK_LOGITS.get(device, CHUNK_LOGITS["cpu"]) // len(weight_VD))
            for part_MD, part_grad_MD in zip(
                hidden_MD.to(dtype).split(rows), hidden_grad_MD.split(rows), strict=True
            ):
                own_N = None if weights_N is None else weights_N[:rows]
                parts.append(vocabulary.add(part_MD, labels_N[:rows], own_N, part_grad_MD))
                loss += parts[-1].total
                labels_N = labels_N[rows:]
                weights_N = None if weights_N is None else weights_N[rows:]
        ctx.save_for_backward(
            hidden_grad_MD.to(hidden_MD.dtype), vocabulary.weight_grad_VD, vocabulary.bias_grad_V
        )
        others = [torch.cat(values) for values in zip(*(part[1:] for part in parts), strict=True)]
        ctx.mark_non_differentiable(*others)
        ctx.set_materialize_grads(False)
        return Losses(loss, *others)

    @staticmethod
    def backward(ctx: Any, scale: Tensor, *others: None) -> tuple[Tensor | None, ...]:
        hidden_MD, weight_VD, bias_V = ctx.saved_tensors
        return hidden_MD.mul_(scale), weight_VD.mul_(scale), bias_V.mul_(scale), None, None, None


class _Vocabulary:
    """The weights of the logits, cut into tiles of words, and their gradients.

    Matrix products are computed in ``dtype``, all else in float32.
    """

    def __init__(self, weight_VD: Tensor, bias_V: Tensor, dtype: torch.dtype, terms: Terms) -> None:
        self._dtype, self._terms, self._words = dtype, terms, len(bias_V)
        self.weight_grad_VD = torch.empty_like(weight_VD, memory_format=torch.contiguous_format)
        self.bias_grad_V = torch.zeros_like(bias_V)
        more = -len(bias_V) % MULTIPLES.get(weight_VD.device.type, 1)
        if dtype != weight_VD.dtype and more and not terms.label_smoothing:
            # Words that never occur.
            bias_V = functional.pad(bias_V, (0, more), value=-math.inf)
            weight_VD = functional.pad(weight_VD, (0, 0, 0, more))
        words = TILE_WORDS if weight_VD.device.type == "cpu" else len(weight_VD)
        self._tiles = [
            tensor.split(words)
            for tensor in (
                weight_VD.to(dtype), bias_V.to(dtype), self.weight_grad_VD, self.bias_grad_V
            )
        ]  # fmt: skip
        self._empty = True

    def add(
        self, hidden_MD: Tensor, labels_N: Tensor, weights_N: Tensor | None, hidden_grad_MD: Tensor
    ) -> Losses:
        """Add the gradients of some rows, of which the first N have labels; return their loss."""
        count, terms = len(labels_N), self._terms
        weights, biases, weight_grads, bias_grads = self._tiles
        tiles: list[_Tile] = []
        first = 0
        for weight, bias in zip(weights, biases, strict=True):
            logits_MW = torch.addmm(bias, hidden_MD, weight.t()).float()
            tiles.append(_Tile(logits_MW, labels_N - first, terms.label_smoothing / self._words))
            first += len(bias)
        top_MT = torch.cat([tile.top_M1 for tile in tiles], dim=1)
        total_MT = torch.cat([tile.total_M1 for tile in tiles], dim=1)
        log_total_M1 = (top_MT + total_MT.log()).logsumexp(1, keepdim=True)
        scale_MT = (top_MT - log_total_M1).exp()
        if terms.z_loss:
            scale_MT *= 1 + 2 * terms.z_loss * log_total_M1
        scale_MT[count:] = 0
        grads = zip(tiles, scale_MT.split(1, dim=1), weights, weight_grads, bias_grads, strict=True)
        for tile, scale_M1, weight, weight_grad, bias_grad in grads:
            logits_grad_MW = tile.gradient(scale_M1, 1 - terms.label_smoothing)
            if weights_N is not None:
                logits_grad_MW[:count] *= weights_N[:, None]
            words = len(bias_grad)
            bias_grad += logits_grad_MW.sum(0)[:words]
            logits_grad_MW = logits_grad_MW.to(self._dtype)
            self._add_product(weight_grad, logits_grad_MW.t()[:words], hidden_MD, self._empty)
            self._add_product(hidden_grad_MD, logits_grad_MW, weight)
        self._empty = False
        top_N = top_MT[:count].amax(1)
        return self._losses(log_total_M1[:count, 0], top_N, tiles, weights_N)

    def _losses(
        self, log_total_N: Tensor, top_N: Tensor, tiles: list[_Tile], weights_N: Tensor | None
    ) -> Losses:
        terms = self._terms
        label_logit_N = torch.zeros_like(log_total_N)
        for tile in tiles:
            label_logit_N += tile.label_logit_N
        found = (log_total_N - label_logit_N, log_total_N, label_logit_N == top_N)
        if weights_N is None and terms == PLAIN:
            total = log_total_N.sum() - label_logit_N.sum()
            return Losses(total, *found)
        minimised_N = found[0]
        if terms.label_smoothing:
            spread_N = torch.zeros_like(log_total_N)
            for tile in tiles:
                spread_N += tile.spread_N
            minimised_N = minimised_N + terms.label_smoothing * label_logit_N - spread_N
        if terms.z_loss:
            minimised_N = minimised_N + terms.z_loss * log_total_N.square()
        total = minimised_N.sum() if weights_N is None else weights_N @ minimised_N
        return Losses(total, *found)

    def _add_product(
        self, total: Tensor, left: Tensor, right: Tensor, is_first: bool = False
    ) -> None:
        if self._dtype == total.dtype and is_first:
            # Compiled for a GPU, addmm_ with beta=0 multiplies what memory held by 0.
            torch.mm(left, right, out=total)
        elif self._dtype == total.dtype:
            total.addmm_(left, right)
        elif is_first:
            total.copy_(left @ right)
        else:
            total += left @ right


class _Tile:
    """The logits of some words, of which only what later steps need is kept.

    Args:
        spread: the share of each label that every word gets.

    Attributes:
        top_M1: the largest logit of each row.
        total_M1: the sum of the exponentials of the logits, less ``top_M1``.
        label_logit_N: the logit of the label, 0 where the label is none of these words.
        spread_N: the sum of the logits, times ``spread``.
    """

    def __init__(self, logits_MW: Tensor, labels_N: Tensor, spread: float) -> None:
        words, self._spread = logits_MW.shape[1], spread
        if spread:
            self.spread_N = spread * logits_MW[: len(labels_N)].sum(-1)
        self._is_here_N1 = ((labels_N >= 0) & (labels_N < words))[:, None]
        self._label_N1 = labels_N.clamp(0, words - 1)[:, None]
        found_N1 = logits_MW[: len(labels_N)].gather(1, self._label_N1)
        # A scalar in `where` is copied to a GPU, which is waited for.
        self.label_logit_N = found_N1.masked_fill(~self._is_here_N1, 0.0)[:, 0]
        self.top_M1 = logits_MW.amax(-1, keepdim=True)
        self._shares_MW = logits_MW.sub_(self.top_M1).exp_()
        self.total_M1 = self._shares_MW.sum(-1, keepdim=True)

    def gradient(self, scale_M1: Tensor, sharpness: float) -> Tensor:
        """Return the gradient of the logits: probabilities, less ``sharpness`` at the label."""
        labelled_NW = self._shares_MW.mul_(scale_M1)[: len(self._label_N1)]
        if self._spread:
            labelled_NW -= self._spread
        labelled_NW.scatter_add_(1, self._label_N1, -sharpness * self._is_here_N1.float())
        return self._shares_MW
