"""The loss of a head on ``[CLS]``: of a class, or of a score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bertexp.finetuning.labelled import LabelledExamples
from bertexp.models.dropout import draw_masks_fast
from bertexp.models.encoder import Layer, encode, whole_layer
from bertexp.tasks.batch import Batch

if TYPE_CHECKING:
    from transformers import BertPreTrainedModel

BATCH_SIZE = 64


class SequenceObjective(nn.Module):
    """A ``BertForSequenceClassification`` of ``transformers`` and its loss.

    With one label it predicts a score, and its loss is the squared error; else a class, and its
    loss is the cross-entropy in nats (Devlin et al. 2019, section 4.1).

    Attributes:
        train_layer: computes the layers in training.
    """

    def __init__(self, model: BertPreTrainedModel) -> None:
        super().__init__()
        draw_masks_fast(model)
        self.model: Any = model
        self.train_layer: Layer = whole_layer

    def logits(self, batch: Batch) -> Tensor:
        """Return the head's output, shape (batch, labels)."""
        # The pooler reads the first position of each sequence: give it nothing but [CLS].
        run_layer = self.train_layer if self.training else whole_layer
        cls_B1D = encode(self.model.bert, batch, run_layer)[:, None]
        pooled_BD = self.model.bert.pooler(cls_B1D)
        return self.model.classifier(self.model.dropout(pooled_BD))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss, summed over the batch."""
        return {"label": loss(self.logits(batch), batch.labels("label"))}


def loss(logits_BC: Tensor, targets_B: Tensor) -> Tensor:
    """Return the summed loss of classes (``int64``) or scores."""
    logits_BC = logits_BC.float()
    if targets_B.is_floating_point():
        return functional.mse_loss(logits_BC[:, 0], targets_B, reduction="sum")
    return functional.cross_entropy(logits_BC, targets_B, reduction="sum")


@torch.no_grad()
def predict(
    objective: SequenceObjective, examples: LabelledExamples, device: torch.device
) -> Tensor:
    """Return the logits of every example, in order, ``float32`` of shape (examples, labels).

    The model is left in evaluation mode.
    """
    objective.eval()
    order = np.argsort(examples.lengths(0), kind="stable")
    logits_NC = torch.empty(len(examples), objective.model.config.num_labels)
    for chosen in np.split(order, range(BATCH_SIZE, len(order), BATCH_SIZE)):
        batch = examples.batch(0, chosen).to(device)
        logits_NC[torch.from_numpy(chosen)] = objective.logits(batch).float().cpu()
    return logits_NC
