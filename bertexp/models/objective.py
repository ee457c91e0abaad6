"""The losses of a batch, computed at the predicted positions only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn import functional

from bertexp.models.dropout import draw_masks_fast
from bertexp.models.encoder import Layer, encode, whole_layer
from bertexp.models.masked_loss import masked_loss
from bertexp.tasks.batch import Batch

if TYPE_CHECKING:
    from transformers import BertPreTrainedModel


class Objective(nn.Module):
    """A BERT of ``transformers`` and the losses of its heads.

    The vocabulary's logits are computed for the predicted positions alone; the weights
    are the model's own, so that ``save_pretrained`` gives what any other tool loads.

    Args:
        model: a ``BertForMaskedLM``, ``BertForNextSentencePrediction`` or
            ``BertForPreTraining``.

    Attributes:
        train_layer: computes the layers in training.
    """

    def __init__(self, model: BertPreTrainedModel) -> None:
        super().__init__()
        draw_masks_fast(model)
        self.model: Any = model
        self.train_layer: Layer = whole_layer

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``"mlm"`` of shape (predictions, vocabulary) and ``"nsp"`` of shape (batch, 2)."""
        hidden_UD = encode(self.model.bert, batch)
        logits = {}
        if batch.labels_N is not None:
            logits["mlm"] = self.model.cls.predictions(hidden_UD[: len(batch.labels_N)])
        if batch.next_labels_B is not None:
            logits["nsp"] = self._next_logits(hidden_UD, batch.next_labels_B)
        return logits

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return each objective's loss in nats, summed over the batch's predictions."""
        run_layer = self.train_layer if self.training else whole_layer
        hidden_UD = encode(self.model.bert, batch, run_layer)
        losses = {}
        if batch.labels_N is not None:
            head = self.model.cls.predictions
            filled = len(hidden_UD) - batch.predictions.get("nsp", 0)
            hidden, vocabulary = head.transform(hidden_UD[:filled]), head.decoder
            losses["mlm"] = masked_loss(hidden, vocabulary.weight, vocabulary.bias, batch.labels_N)
        if batch.next_labels_B is not None:
            logits_B2 = self._next_logits(hidden_UD, batch.next_labels_B).float()
            losses["nsp"] = functional.cross_entropy(
                logits_B2, batch.next_labels_B, reduction="sum"
            )
        return losses

    def _next_logits(self, hidden_UD: Tensor, labels_B: Tensor) -> Tensor:
        # The pooler reads the first position of each sequence: give it nothing but [CLS].
        cls_B1D = hidden_UD[-len(labels_B) :, None]
        logits: Tensor = self.model.cls.seq_relationship(self.model.bert.pooler(cls_B1D))
        return logits


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
    # Keys and values; queries and what they read; the output projection and the feed-forward.
    work = (
        (tokens, 2 * hidden * hidden),
        (queries, hidden * (hidden + 2 * length)),
        (len(batch.slots_U), hidden * (hidden + 2 * config.intermediate_size)),
    )
    products = sum(count * each for count, each in work)
    products += (config.num_hidden_layers - 1) * tokens * sum(each for _, each in work)
    counts = batch.predictions
    filled = len(batch.slots_U) - counts.get("nsp", 0)
    products += (filled if "mlm" in counts else 0) * hidden * (hidden + config.vocab_size)
    products += counts.get("nsp", 0) * hidden * (hidden + 2)
    products += counts.get("label", 0) * hidden * (hidden + len(config.id2label or ()))
    return 3 * 2 * float(products)
