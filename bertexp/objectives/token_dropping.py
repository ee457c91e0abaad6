"""Masked language modelling whose middle layers leave out unimportant tokens (Hou et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bertexp.families import FAMILIES
from bertexp.families.base import Family
from bertexp.families.bert import BertLayers
from bertexp.families.inputs import Inputs
from bertexp.objectives import OBJECTIVES
from bertexp.objectives.batch import Batch
from bertexp.objectives.config import DroppingKeys
from bertexp.objectives.learner import Learner
from bertexp.objectives.masked_loss import Losses
from bertexp.objectives.mlm import READS, MaskedLanguageModelling
from bertexp.objectives.positions import QUERIES_MULTIPLE, rounded_up
from bertexp.objectives.vocabulary_loss import LARGEST, SCALE, Observer, sums_by_token
from bertexp.validation import UserError, require

# As published: the loss of a token that was never predicted, and the share that an update keeps.
FIRST, KEPT = 10.0, 0.995
LEAST_LAYERS = 4


class RunningLosses(nn.Module):
    """The loss of each token of the vocabulary, a moving average over forward passes.

    A buffer, so that checkpoints have it.
    """

    losses_V: Tensor
    is_special_V: Tensor

    def __init__(self, vocab_size: int, is_special_V: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("losses_V", torch.full((vocab_size,), FIRST))
        self.register_buffer("is_special_V", torch.from_numpy(is_special_V), persistent=False)

    @torch.no_grad()
    def add(self, labels_N: Tensor, found: Losses) -> None:
        """Move the average of each predicted token towards its mean loss, in all processes."""
        sums_2V = sums_by_token(labels_N, found.each_N.float(), len(self.losses_V))
        means_V = (sums_2V[1] / SCALE / sums_2V[0].clamp(min=1)).to(self.losses_V.dtype)
        moved_V = KEPT * self.losses_V + (1 - KEPT) * means_V
        self.losses_V.copy_(torch.where(sums_2V[0] > 0, moved_V, self.losses_V))

    def most_important(self, inputs: Inputs, count: int) -> Tensor:
        """Return the positions of the ``count`` most important tokens, in ascending order.

        Special tokens come first, then those with the largest losses.
        """
        ids_BL, mask_BL = inputs.input_ids_BL, inputs.attention_mask_BL
        importance_BL = self.losses_V[ids_BL].masked_fill(self.is_special_V[ids_BL], LARGEST + 1)
        if mask_BL is not None:
            importance_BL = importance_BL.masked_fill(mask_BL == 0, -1.0)
        order_BL = importance_BL.argsort(dim=1, descending=True, stable=True)
        return order_BL[:, :count].sort(1).values


@OBJECTIVES.register("token_dropping", reads=READS)
class TokenDropping(MaskedLanguageModelling):
    """Masked language modelling in which half of the layers compute important tokens only.

    Hou et al. 2022, "Token dropping for efficient BERT pretraining", section 3: important are
    special tokens, mask tokens among them, then those whose prediction has had the largest loss so
    far, a moving average for each token of the vocabulary with the published constants. The others
    are left out from the middle layer to the last but one, see ``BertLayers``, and come back for
    the last. Only training leaves tokens out: evaluation and fine-tuning compute them all.

    What differs: a forward pass moves the average of a token once, towards the mean loss of its
    predictions, where theirs takes one of them; the number of tokens that stay is a share of the
    batch's length, rounded up, where theirs is fixed (256 of 512).
    """

    name = "token_dropping"
    is_alone = True
    # Its table of losses decides what the next step computes.
    is_recordable = False

    @classmethod
    def check(cls, config: Any, task: str, is_compiled: bool) -> None:
        if not issubclass(kind := FAMILIES[config.model_type], BertLayers):
            raise UserError(
                f"{task}: needs a family with BERT's layers (bert, roberta, electra), which "
                f"{kind.as_option()} is not."
            )
        layers = config.num_hidden_layers
        allowed = f"at least {LEAST_LAYERS} for {task} (model=mini has 4)"
        require(layers >= LEAST_LAYERS, "model.num_hidden_layers", layers, allowed)
        if is_compiled:
            raise UserError(
                "hardware.compile=true: compiles layers that compute all positions, and "
                f"{task} leaves some out."
            )

    def build(self, family: Family) -> nn.Module:
        return RunningLosses(family.config.vocab_size, self.tokenizer.is_special_V)

    def observers(self, learner: Learner) -> Sequence[Observer]:
        return (*super().observers(learner), self._table(learner))

    def losses(
        self, learner: Learner, batch: Batch, encoded: Callable[[], Tensor]
    ) -> dict[str, Tensor]:
        kept_BK = self._table(learner).most_important(batch, self._count(batch))
        shorter = replace(batch, kept_BK=kept_BK)
        return super().losses(learner, batch, lambda: learner.family.encode(shorter))

    def products(self, learner: Learner, batch: Batch) -> float:
        """Return those of the head, less what is saved of encoding the batch."""
        kept_BK = torch.empty((len(batch.input_ids_BL), self._count(batch)), device="meta")
        family = learner.family
        saved = family.products(batch) - family.products(replace(batch, kept_BK=kept_BK))
        return super().products(learner, batch) - saved

    def _table(self, learner: Learner) -> RunningLosses:
        return learner.own[self.name]

    def _count(self, inputs: Inputs) -> int:
        length = inputs.input_ids_BL.shape[1]
        kept = (1 - OBJECTIVES.keys_of(self.config, DroppingKeys).share) * length
        return min(rounded_up(kept, QUERIES_MULTIPLE), length)
