"""The base class of families: computing a model's outputs, and finding and counting its parts."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bertexp.families import FAMILIES
from bertexp.families.attention import WITHIN_TEXTS, at_positions, encode_row
from bertexp.families.costs import Costs, Part, products_of
from bertexp.families.heads import input_of, name_of, run_head
from bertexp.families.inputs import Inputs
from bertexp.families.kind import LABEL as LABEL
from bertexp.families.kind import MASKED as MASKED
from bertexp.families.kind import PAIR as PAIR
from bertexp.families.kind import REPLACED as REPLACED
from bertexp.families.kind import USE_CHECKPOINT_TOKENIZER, Kind
from bertexp.validation import UserError


class Family(Kind):
    """A kind of encoder; an instance wraps one model.

    By default ``transformers`` computes the encoder at all positions, and its own head at the
    positions with predictions only.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._is_packing = False

    @staticmethod
    def of(model: Any) -> Family:
        """Wrap a model of ``transformers`` in its family's class."""
        return FAMILIES[model.config.model_type](model)

    @property
    def initialization(self) -> str:
        """How a model from scratch was drawn, see ``initialize``."""
        return getattr(self.model, "drawn", "bert")

    def initialize(self, how: str, counts_V: np.ndarray | None = None) -> None:
        """Set what ``model.initialization`` requires; for ``counts_V`` see ``build_model``."""

    def check(self) -> None:
        """Raise a ``UserError`` unless this class computes its heads correctly."""

    def use_tokens(self, pad_id: int, mask_id: int) -> None:
        """Set the ids that the model treats as padding and as masks.

        Raises:
            UserError: the model depends on other ids.
        """
        named = f"model.pretrained={self.config.name_or_path}"
        if self.positions_follow_padding and pad_id != self.config.pad_token_id:
            raise UserError(
                f"{named}: its positions begin behind {self.config.pad_token_id}, its padding id, "
                f"and the tokenizer pads with {pad_id}; {USE_CHECKPOINT_TOKENIZER}"
            )
        masks_by = getattr(self.config, "mask_token_id", mask_id)
        if getattr(self.config, "token_dropout", False) and mask_id != masks_by:
            raise UserError(
                f"{named}: sets the embedding of {masks_by}, its mask id, to 0 (token_dropout), "
                f"and the tokenizer masks with {mask_id}; {USE_CHECKPOINT_TOKENIZER}"
            )
        if hasattr(self.config, "mask_token_id"):
            self.config.mask_token_id = mask_id
        self.config.pad_token_id = pad_id
        # The row at padding_idx gets no gradient, so it must not be that of another token.
        self.model.get_input_embeddings().padding_idx = pad_id

    @torch.no_grad()
    def untie(self, missing: set[str]) -> None:
        """Fix the output bias of a loaded model whose embedding and output matrices are untied.

        Some heads then have the output bias twice, and use the decoder's. ``transformers`` 4 saved
        only the other one, which at the time served as both.

        Args:
            missing: names of weights that were not found; those set here are removed.
        """
        if MASKED not in self.heads:
            return
        bias_V, other_V = self.decoder.bias, getattr(self.masked_head, "bias", None)
        if bias_V is None or other_V is None or bias_V is other_V:
            return
        if (name := f"{self._decoder_name}.bias") in missing:
            bias_V.copy_(other_V)
            missing.remove(name)
        # It gets no gradient, and several processes would wait for one.
        other_V.requires_grad_(False)

    @property
    def config(self) -> Any:
        return self.model.config

    @property
    def base(self) -> Any:
        """The encoder without heads."""
        return self.model.base_model

    @property
    def heads(self) -> frozenset[str]:
        name = type(self.model).__name__
        return next(
            (heads for heads, known in self.classes().items() if known == name), frozenset()
        )

    @property
    def word_embeddings_VD(self) -> Tensor:
        return self.model.get_input_embeddings().weight

    def arguments(
        self,
        ids_BL: Tensor,
        mask: Any = None,
        types_BL: Tensor | None = None,
        positions_BL: Tensor | None = None,
    ) -> dict[str, Any]:
        """Return the arguments of ``base``, without those the family does not accept.

        Args:
            mask: 1 for tokens and 0 for padding, or what ``mask`` returns.
        """
        found = {"input_ids": ids_BL}
        if mask is not None:
            found["attention_mask"] = mask
        if types_BL is not None and self.segments(self.config) > 1:
            found["token_type_ids"] = types_BL
        if positions_BL is not None:
            found["position_ids"] = positions_BL + self._offset(self.config.pad_token_id)
        return found

    def mask(self, attended_B1LL: Tensor) -> Any:
        """Return ``base``'s argument for positions that attend to some of the others only."""
        if self.config._attn_implementation != "eager":
            return attended_B1LL
        # It adds the mask to the scores.
        zeros = torch.zeros(attended_B1LL.shape, device=attended_B1LL.device)
        return zeros.masked_fill(~attended_B1LL, torch.finfo(zeros.dtype).min)

    def hidden(self, inputs: Inputs) -> Tensor:
        """Return the last hidden states at all positions, shape (batch, length, hidden)."""
        attended_B1LL = inputs.attended_B1LL
        mask = inputs.attention_mask_BL if attended_B1LL is None else self.mask(attended_B1LL)
        types_BL, positions_BL = inputs.token_type_ids_BL, inputs.positions_BL
        arguments = self.arguments(inputs.input_ids_BL, mask, types_BL, positions_BL)
        return self.base(**arguments).last_hidden_state

    def encode(self, inputs: Inputs) -> Tensor:
        """Return the last hidden states at ``inputs.slots_U``, shape (used, hidden)."""
        if self._is_packing and inputs.packed_T is not None:
            return encode_row(self, inputs)
        queried_BPD = at_positions(self.hidden(inputs), inputs.queries_BP)
        return queried_BPD.flatten(0, 1)[inputs.slots_U]

    def use_packing(self) -> None:
        """Compute no padding from now on where inputs have ``packed_T``."""
        self.model.set_attn_implementation(WITHIN_TEXTS)
        self._is_packing = True

    @cached_property
    def _costs(self) -> Costs:
        with torch.device("meta"):
            return Costs.of(self.build(self.config, frozenset()))

    def products(self, inputs: Inputs) -> float:
        """Return the multiply-adds of ``encode``: matrix products only, including padding."""
        if self._is_packing and inputs.packed_T is not None:
            return self._costs.products(*inputs.mean_texts)
        return self._costs.products(*inputs.input_ids_BL.shape)

    @property
    def decoder(self) -> Any:
        """The linear layer from ``transform`` to the vocabulary."""
        return self.model.get_output_embeddings()

    @property
    def _decoder_name(self) -> str:
        return name_of(self.decoder, self.model)

    @property
    def masked_head(self) -> Any:
        """The module that contains the decoder."""
        return self.model.get_submodule(self._decoder_name.rpartition(".")[0])

    @property
    def output_bias_V(self) -> Tensor:
        """The output bias: the ``decoder``'s own, one beside it, or zeros."""
        bias_V: Tensor | None = self.decoder.bias
        if bias_V is None:
            bias_V = getattr(self.masked_head, "bias", None)
        return self.decoder.weight.new_zeros(len(self.decoder.weight)) if bias_V is None else bias_V

    def transform(self, hidden_MD: Tensor) -> Tensor:
        """Return the inputs of the masked tokens' ``decoder``, a row per prediction."""
        return input_of(self.decoder, self.model, hidden_MD[None])[0]

    def pair_logits(self, first_BD: Tensor) -> Tensor:
        """Return the logits of "follows" and "does not" from the first token of each pair."""
        raise NotImplementedError

    def replaced_logits(self, hidden_MD: Tensor) -> Tensor:
        """Return the logits of "replaced" at each position, shape (positions,)."""
        raise NotImplementedError

    def label_logits(self, first_BD: Tensor) -> Tensor:
        """Return the logits of the labels from the first token of each text."""
        return run_head(self.model, first_BD[:, None])

    def masked_logits(self, hidden_MD: Tensor) -> Tensor:
        """Return logits over the vocabulary, shape (predictions, vocabulary)."""
        return functional.linear(self.transform(hidden_MD), self.decoder.weight, self.output_bias_V)

    def head_products(self, classes: int) -> int:
        """Return a head's multiply-adds per prediction: the model's own, whatever ``classes``."""
        return self._head_products

    @cached_property
    def _head_products(self) -> int:
        with torch.device("meta"):
            twin = type(self)(self.build(self.config, self.heads))
            run = twin.label_logits if LABEL in self.heads else twin.masked_logits
            return products_of(run, torch.zeros(1, self.config.hidden_size))

    def parts(self, length: int) -> list[Part]:
        """Return all parts of the model, with their costs for inputs of ``length`` tokens."""
        encoder = round(self._costs.products(1, length) / length)
        found = [
            Part("word embeddings", self.model.get_input_embeddings()),
            Part("encoder", self.base, encoder),
        ]
        if MASKED in self.heads:
            head = self.head_products(self.config.vocab_size)
            found.append(Part("masked tokens' head", self.model, head, is_head=True))
        return found
