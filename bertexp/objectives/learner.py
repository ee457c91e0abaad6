"""A model and the losses of its objectives, computed where something is predicted only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from bertexp.families.dropout import draw_masks_fast
from bertexp.families.encoder import Layer, encode, whole_layer
from bertexp.objectives.base import Head
from bertexp.objectives.batch import Batch

if TYPE_CHECKING:
    from transformers import BertPreTrainedModel


class Learner(nn.Module):
    """A BERT of ``transformers`` and what it learns.

    Heads are computed for the predicted positions alone; the weights are the model's own, so that
    ``save_pretrained`` gives what any other tool loads.

    Args:
        model: with the heads that the objectives need.
        heads: of its objectives; those that a batch has no target of rest.

    Attributes:
        train_layer: computes the layers in training.
    """

    def __init__(self, model: BertPreTrainedModel, heads: Iterable[Head]) -> None:
        super().__init__()
        draw_masks_fast(model)
        self.model: Any = model
        self.heads = {head.name: head for head in heads}
        self.train_layer: Layer = whole_layer

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        """Return each objective's logits, shape (predictions, classes)."""
        hidden_UD = self._encode(batch)
        return {
            name: self.heads[name].logits(self.model, hidden_UD[target.used][: len(target)])
            for name, target in batch.targets.items()
        }

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return each objective's loss in nats, summed over the batch's predictions."""
        hidden_UD = self._encode(batch)
        return {
            name: self.heads[name].loss(self.model, hidden_UD[target.used], target.labels_N)
            for name, target in batch.targets.items()
        }

    def flops(self, batch: Batch) -> float:
        """Return the floating-point operations of one training step on ``batch``.

        Matrix products only, two operations a multiply-add, the backward pass counted as
        twice the forward one (Kaplan et al. 2020, section 2.1). What is computed counts: the
        padding too, and only the queried positions of the last layer and the head.
        """
        config = self.model.config
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
        for name, target in batch.targets.items():
            products += self.heads[name].products(config, target)
        return 3 * 2 * float(products)

    def _encode(self, batch: Batch) -> Tensor:
        run_layer = self.train_layer if self.training else whole_layer
        return encode(self.model.bert, batch, run_layer)


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameters; shared ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())
