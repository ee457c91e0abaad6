"""The loss of a head at the first position, for a class or a score."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bertexp.finetune.labelled import LABEL, LabelledExamples
from bertexp.objectives.batch import Batch
from bertexp.objectives.head import Head
from bertexp.objectives.learner import Learner

BATCH_SIZE = 64


class LabelHead(Head):
    """The head for labels of a model of ``transformers``, and its loss.

    With one label it predicts a score, and its loss is the squared error; else a class, and its
    loss is the cross-entropy in nats (Devlin et al. 2019, section 4.1).
    """

    name = LABEL
    head = "label"
    is_recordable = True

    def logits(self, learner: Learner, hidden_MD: Tensor) -> Tensor:
        return learner.family.label_logits(hidden_MD)

    def loss(self, learner: Learner, hidden_MD: Tensor, labels_N: Tensor) -> Tensor:
        return loss(self.logits(learner, hidden_MD), labels_N)

    def products(self, learner: Learner, batch: Batch) -> float:
        family = learner.family
        return float(len(batch.targets[self.name]) * family.head_products(family.config.num_labels))


def loss(logits_BC: Tensor, targets_B: Tensor) -> Tensor:
    """Return the summed loss of classes (``int64``) or scores."""
    logits_BC = logits_BC.float()
    if targets_B.is_floating_point():
        return functional.mse_loss(logits_BC[:, 0], targets_B, reduction="sum")
    return functional.cross_entropy(logits_BC, targets_B, reduction="sum")


@torch.no_grad()
def predict(learner: Learner, examples: LabelledExamples, device: torch.device) -> Tensor:
    """Return the logits, ``float32`` of shape (examples, labels).

    The model is left in evaluation mode.
    """
    learner.eval()
    order = np.argsort(examples.lengths(0), kind="stable")
    logits_NC = torch.empty(len(examples), learner.model.config.num_labels)
    for chosen in np.split(order, range(BATCH_SIZE, len(order), BATCH_SIZE)):
        batch = examples.batch(0, chosen).to(device)
        logits_NC[torch.from_numpy(chosen)] = learner.logits(batch)[LABEL].float().cpu()
    return logits_NC
