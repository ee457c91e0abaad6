"""DistilBERT (Sanh et al. 2019): BERT's layers without segments and without a pooler."""

from __future__ import annotations

from bertexp.families import FAMILIES
from bertexp.families.base import Family


@FAMILIES.register("distilbert")
class DistilBert(Family):
    """DistilBERT, computed by ``transformers``; it learns from text alone, without a teacher."""

    name = "distilbert"
    feed_forward = "hidden_dim"
