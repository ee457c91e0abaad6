"""Masked language modelling whose encoder reads visible tokens only (Meng et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bertexp.data.tokens.store import TokenStore
from bertexp.families.base import Family
from bertexp.families.dropout import use_fast_dropout
from bertexp.families.inputs import Inputs
from bertexp.families.trials import check_positions
from bertexp.objectives import OBJECTIVES
from bertexp.objectives.batch import Batch, Target
from bertexp.objectives.config import MaeKeys
from bertexp.objectives.examples import Examples, MaskedExamples
from bertexp.objectives.learner import Learner
from bertexp.objectives.mlm import READS, MaskedLanguageModelling
from bertexp.objectives.positions import QUERIES_MULTIPLE, rounded_up
from bertexp.validation import UserError


@dataclass(frozen=True)
class Shortened(Target):
    """A target whose batch has at most ``visible`` visible tokens in an example, rounded up.

    Counted here, as counting on a GPU would mean waiting for it.
    """

    visible: int


class ShortenedExamples(MaskedExamples):
    """Masked examples, with the number of positions that the encoder reads in a batch."""

    def batch(self, epoch: int, example_ids: np.ndarray) -> Batch:
        batch = super().batch(epoch, example_ids)
        longest = most_visible(batch, self.masker.tokenizer.mask_id)
        target = Shortened(**vars(batch.targets[self.name]), visible=longest)
        return replace(batch, targets={**batch.targets, self.name: target})


@OBJECTIVES.register("mae_lm", reads=READS)
class MaskedAutoencoding(MaskedLanguageModelling):
    """Predict masked tokens by a small decoder, from an encoder that never reads a mask token.

    Meng et al. 2024, "Representation deficiency in masked language modeling", section 4: the
    encoder gets the visible tokens with their positions, and the sequence is shorter by those that
    are masked. The decoder gets the encoder's outputs at their places and the embedding of the
    mask token at the others, adds position embeddings of its own, and is followed by the head for
    masked tokens, tied to the encoder's embeddings as usual. As there, it has a third of the
    encoder's layers (4 of 12), as wide as those, and is not part of the exported encoder. What
    ``masking.replace`` leaves visible of a predicted token, the original or a random one, the
    encoder reads, and the decoder predicts from its output; with ``replace.mask=1``, which
    ``task=mae_lm`` brings, it reads none of them.

    What differs: the encoder's outputs are scaled to the spread of embeddings before the decoder
    adds positions, and positions are absolute embeddings in BERT's families, where the paper adds a
    relative bias. Layers with a local window (ModernBERT) count visible neighbours only.
    """

    name = "mae_lm"
    # Nearly every batch has a different number of visible positions.
    is_recordable = False
    encodes = True
    reads_masks = False
    exported = ("model",)

    @classmethod
    def check(cls, config: Any, task: str, is_compiled: bool) -> None:
        if is_compiled:
            raise UserError(
                f"hardware.compile=true: {task} has sequences of a new length in most batches."
            )
        check_positions(config, task)
        width = getattr(config, "embedding_size", config.hidden_size)
        if width != config.hidden_size:
            raise UserError(
                f"{task}: its decoder reads embeddings beside states, and the model's are "
                f"{width} and {config.hidden_size} wide."
            )

    def build(self, family: Family) -> nn.Module:
        layers = OBJECTIVES.keys_of(self.config, MaeKeys).decoder_layers
        return Decoder(family, layers or -(-family.config.num_hidden_layers // 3))

    def mark(self, examples: Examples, tokens: TokenStore) -> MaskedExamples:
        return self.masked(examples, tokens, ShortenedExamples)

    def encode(self, learner: Learner, inputs: Inputs) -> Tensor:
        """Return the decoder's states at used positions."""
        mask_id, decoder = self.tokenizer.mask_id, learner.own[self.name]
        visible_BL = _visible(inputs, mask_id)
        order_BL = (~visible_BL).byte().argsort(dim=1, stable=True)
        columns_BV = order_BL[:, : self._longest(inputs)]
        found_BV = visible_BL.gather(1, columns_BV)
        shorter = inputs.gathered(columns_BV, found_BV)
        # As small as embeddings: added to states of size 1, positions would hardly count.
        spread = learner.family.config.initializer_range
        states_SD = spread * learner.family.encode(shorter)
        mask_1D = learner.family.word_embeddings_VD[mask_id : mask_id + 1]
        # Row 0 is the mask token's embedding, the others are states of the encoder.
        row_BV = torch.arange(1, 1 + found_BV.numel(), device=found_BV.device).view_as(found_BV)
        rows_BL = torch.zeros_like(inputs.input_ids_BL).scatter_(1, columns_BV, row_BV * found_BV)
        return decoder(torch.cat([mask_1D, states_SD]), rows_BL, inputs)

    def _longest(self, inputs: Inputs) -> int:
        if isinstance(inputs, Batch):
            target = inputs.targets.get(self.name)
            if isinstance(target, Shortened):
                return target.visible
        return most_visible(inputs, self.tokenizer.mask_id)

    def products(self, learner: Learner, batch: Batch) -> float:
        read_BV = torch.empty((len(batch.input_ids_BL), self._longest(batch)), device="meta")
        shorter = Inputs(input_ids_BL=read_BV, queries_BP=read_BV, slots_U=read_BV.flatten())
        found = learner.family.products(shorter) + learner.own[self.name].family.products(batch)
        return found + super().products(learner, batch)


def most_visible(inputs: Inputs, mask_id: int) -> int:
    """Return the largest number of visible tokens in an example, rounded up to a multiple."""
    longest = int(_visible(inputs, mask_id).sum(1).max())
    return min(rounded_up(longest, QUERIES_MULTIPLE), inputs.input_ids_BL.shape[1])


def _visible(inputs: Inputs, mask_id: int) -> Tensor:
    visible_BL = inputs.input_ids_BL != mask_id
    if inputs.attention_mask_BL is not None:
        visible_BL &= inputs.attention_mask_BL.bool()
    return visible_BL


class Decoder(nn.Module):
    """A few layers of a family, without a vocabulary and with position embeddings of their own."""

    def __init__(self, family: Family, layers: int) -> None:
        super().__init__()
        self.model: Any = family.build(_config(family, layers), frozenset())
        self._states = StateTable()
        self.model.set_input_embeddings(self._states)
        self.family = Family.of(self.model)
        self.family.initialize(family.initialization)
        use_fast_dropout(self.model)

    def forward(self, states_SD: Tensor, rows_BL: Tensor, inputs: Inputs) -> Tensor:
        """Return the last states at used positions; the input has row ``rows_BL`` of states."""
        positions_BL = inputs.positions_BL
        if positions_BL is None:
            # Not derived from the ids, which are not tokens.
            positions_BL = torch.arange(rows_BL.shape[1], device=rows_BL.device).expand_as(rows_BL)
        self._states.states_SD = states_SD
        try:
            given = replace(inputs, input_ids_BL=rows_BL, positions_BL=positions_BL)
            return self.family.encode(given)
        finally:
            self._states.states_SD = None


def _config(family: Family, layers: int) -> Any:
    """Return the configuration of an encoder with other layers and hardly any vocabulary."""
    known = family.config.to_dict()
    # Some list the kind of each layer, and a list of another length would not fit.
    known.pop("layer_types", None)
    sizes = {"num_hidden_layers": layers, "vocab_size": (known.get("pad_token_id") or 0) + 1}
    names = family.config.attribute_map
    known |= {names.get(name, name): size for name, size in sizes.items()}
    return type(family.config)(**known)


class StateTable(nn.Module):
    """Stands in for an embedding table, with rows that are given for one call."""

    states_SD: Tensor | None = None

    def forward(self, rows: Tensor) -> Tensor:
        assert self.states_SD is not None
        return functional.embedding(rows, self.states_SD)
