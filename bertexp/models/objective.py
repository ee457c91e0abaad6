"""The losses of a batch, computed at the predicted positions only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn import functional

from bertexp.models.encoder import encode
from bertexp.models.masked_loss import masked_loss
from bertexp.tasks.base import Batch

if TYPE_CHECKING:
    from transformers import BertPreTrainedModel


class Objective(nn.Module):
    """A BERT of ``transformers`` and the losses of its heads.

    The vocabulary's logits are computed for the predicted positions alone; the weights
    are the model's own, so that ``save_pretrained`` gives what any other tool loads.

    Args:
        model: a ``BertForMaskedLM``, ``BertForNextSentencePrediction`` or
            ``BertForPreTraining``.
    """

    def __init__(self, model: BertPreTrainedModel) -> None:
        super().__init__()
        self.model: Any = model

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``"mlm"`` of shape (predictions, vocabulary) and ``"nsp"`` of shape (batch, 2)."""
        hidden_BPD = encode(self.model.bert, batch)
        logits = {}
        if batch.labels_N is not None:
            logits["mlm"] = self.model.cls.predictions(_predicted(hidden_BPD, batch))
        if batch.next_labels_B is not None:
            logits["nsp"] = self._next_logits(hidden_BPD)
        return logits

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return each objective's loss in nats, summed over the batch's predictions."""
        hidden_BPD = encode(self.model.bert, batch)
        losses = {}
        if batch.labels_N is not None:
            head = self.model.cls.predictions
            hidden_ND, vocabulary = head.transform(_predicted(hidden_BPD, batch)), head.decoder
            losses["mlm"] = masked_loss(
                hidden_ND, vocabulary.weight, vocabulary.bias, batch.labels("mlm")
            )
        if batch.next_labels_B is not None:
            logits_B2 = self._next_logits(hidden_BPD).float()
            labels_B = batch.labels("nsp")
            losses["nsp"] = functional.cross_entropy(logits_B2, labels_B, reduction="sum")
        return losses

    def _next_logits(self, hidden_BPD: Tensor) -> Tensor:
        return self.model.cls.seq_relationship(self.model.bert.pooler(hidden_BPD))


def _predicted(hidden_BPD: Tensor, batch: Batch) -> Tensor:
    """Return the hidden states at the predicted positions, shape (predictions, hidden)."""
    return hidden_BPD.flatten(0, 1)[batch.slots_N]


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameters; shared ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def flops_per_batch(model: BertPreTrainedModel, batch: Batch) -> float:
    """Return the floating-point operations of one training step on ``batch``.

    Matrix products only, two operations a multiply-add, the backward pass counted as
    twice the forward one (Kaplan et al. 2020, section 2.1). What is computed counts: the
    padding too, and only the queried positions of the last layer and the head.
    """
    config = model.config
    hidden, length = config.hidden_size, batch.input_ids_BL.shape[1]
    tokens, queries = batch.input_ids_BL.numel(), batch.queries_BP.numel()
    # Keys and values; queries, their attention, the output projection and the feed-forward.
    from_tokens = 2 * hidden * hidden
    from_queries = 2 * hidden * (hidden + length + config.intermediate_size)
    products = config.num_hidden_layers * tokens * from_tokens
    products += ((config.num_hidden_layers - 1) * tokens + queries) * from_queries
    counts = batch.predictions
    products += counts.get("mlm", 0) * hidden * (hidden + config.vocab_size)
    products += counts.get("nsp", 0) * hidden * (hidden + 2)
    products += counts.get("label", 0) * hidden * (hidden + len(config.id2label or ()))
    return 3 * 2 * float(products)
