"""The loss of masked tokens over a large vocabulary, in little memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Logits that exist at the same time: 32 MiB in float32, whatever the mask rate.
CHUNK_LOGITS = 1 << 23


def masked_loss(hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor, labels_N: Tensor) -> Tensor:
    """Return the cross-entropy of ``hidden @ weight.T + bias``, summed over the predictions.

    The same as ``cross_entropy(linear(hidden, weight, bias), labels, reduction="sum")``, in nats,
    shape (). The gradients are computed with the loss, chunk by chunk, so that no more than
    ``CHUNK_LOGITS`` logits are ever there and none of them is computed or stored twice (the idea
    of Hsu et al. 2024, "Liger kernel"). It can be differentiated once.

    Args:
        hidden_ND: hidden states at the predicted positions.
        weight_VD, bias_V: the vocabulary's.
        labels_N: the ids that stood there.
    """
    loss: Tensor = _MaskedLoss.apply(hidden_ND, weight_VD, bias_V, labels_N)  # type: ignore[no-untyped-call]
    return loss


class _MaskedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor, labels_N: Tensor
    ) -> Tensor:
        device = hidden_ND.device.type
        dtype = hidden_ND.dtype
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            return _loss_and_gradients(ctx, hidden_ND, weight_VD, bias_V, labels_N, dtype)

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        hidden_ND, weight_VD, bias_V = ctx.saved_tensors
        return hidden_ND.mul_(scale), weight_VD.mul_(scale), bias_V.mul_(scale), None


def _loss_and_gradients(
    ctx: Any,
    hidden_ND: Tensor,
    weight_VD: Tensor,
    bias_V: Tensor,
    labels_N: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    """Return the loss and leave its gradients in ``ctx``; products are computed in ``dtype``."""
    weight, bias = weight_VD.to(dtype), bias_V.to(dtype)
    loss = torch.zeros((), device=hidden_ND.device)
    hidden_grad_ND = torch.empty_like(hidden_ND)
    weight_grad_VD, bias_grad_V = torch.zeros_like(weight_VD), torch.zeros_like(bias_V)
    rows = max(1, CHUNK_LOGITS // len(weight))
    parts = zip(
        hidden_ND.split(rows), labels_N.split(rows), hidden_grad_ND.split(rows), strict=True
    )
    for part_ND, label_N, part_grad_ND in parts:
        hidden = part_ND.to(dtype)
        logits_NV = torch.addmm(bias, hidden, weight.t()).float()
        logits_NV -= logits_NV.amax(-1, keepdim=True)
        loss -= logits_NV.gather(1, label_N[:, None]).sum()
        shares_NV = logits_NV.exp_()
        total_N1 = shares_NV.sum(-1, keepdim=True)
        loss += total_N1.log().sum()
        # The gradient of the logits: probabilities, less 1 at the label.
        shares_NV /= total_N1
        shares_NV.scatter_add_(1, label_N[:, None], torch.full_like(total_N1, -1.0))
        bias_grad_V += shares_NV.sum(0)
        grad_NV = shares_NV.to(dtype)
        part_grad_ND.copy_(grad_NV @ weight)
        if dtype == weight_grad_VD.dtype:
            weight_grad_VD.addmm_(grad_NV.t(), hidden)
        else:
            weight_grad_VD += grad_NV.t() @ hidden
    ctx.save_for_backward(hidden_grad_ND, weight_grad_VD, bias_grad_V)
    return loss
