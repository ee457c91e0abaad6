"""DeBERTa-v3 (He et al. 2021): attention to both the content and the distance of a token."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bertexp.families import FAMILIES
from bertexp.families.base import Family
from bertexp.families.config import ModelConfig
from bertexp.families.inputs import Inputs


@FAMILIES.register("deberta-v2")
class DebertaV2(Family):
    """DeBERTa-v2 and -v3, which share a ``model_type``, computed by ``transformers``.

    From scratch, all that ``model.*`` does not set is as in the published v3 models: content
    attends to positions and positions to content, in 256 logarithmic buckets that share the
    projections of the content; there are no absolute positions, segments or convolution.
    """

    name = "deberta-v2"

    @classmethod
    def settings(cls, sizes: ModelConfig, vocab_size: int, pad_id: int) -> dict[str, Any]:
        return super().settings(sizes, vocab_size, pad_id) | {
            "relative_attention": True,
            "position_buckets": 256,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "type_vocab_size": 0,
            "pooler_hidden_size": sizes.hidden_size,
            "pooler_dropout": 0,
        }

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        # Of a query (a row) from a key, at all positions, shape (1, length, length).
        self._distances_1LL: Tensor | None = None

    def hidden(self, inputs: Inputs) -> Tensor:
        """The embeddings take a padding mask only; the layers take either kind.

        They are called one after the other for the distances, which ``transformers`` computes anew
        in every step with a constant that it copies to the GPU: a step with it cannot be recorded.
        """
        types_BL, positions_BL = inputs.token_type_ids_BL, inputs.positions_BL
        arguments = self.arguments(inputs.input_ids_BL, None, types_BL, positions_BL)
        embedded_BLD = self.base.embeddings(**arguments, mask=inputs.attention_mask_BL)
        mask, attended_B1LL = inputs.real_BL, inputs.attended_B1LL
        if attended_B1LL is not None:
            mask = attended_B1LL[:, 0].expand(len(embedded_BLD), -1, -1)
        distances_1LL = self._distances(embedded_BLD)
        return self.base.encoder(embedded_BLD, mask, relative_pos=distances_1LL).last_hidden_state

    def _distances(self, embedded_BLD: Tensor) -> Tensor | None:
        length, known_1LL = embedded_BLD.shape[1], self._distances_1LL
        if known_1LL is None or known_1LL.device != embedded_BLD.device:
            # Once, at all positions: recorded steps read it where it is.
            longest = self.positions(self.config)
            known_1LL = self.base.encoder.get_rel_pos(embedded_BLD.new_empty(longest, 0))
            self._distances_1LL = known_1LL
        return None if known_1LL is None else known_1LL[:, :length, :length]
