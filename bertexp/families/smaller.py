"""A smaller model of the same family."""

from __future__ import annotations

import math
from typing import Any

from bertexp.families.base import MASKED, Family
from bertexp.families.config import ModelConfig


def smaller_model(family: Family, width: float, depth: float, shares_tables: bool) -> Any:
    """Return a new masked language model, drawn from the global generator.

    Args:
        family: that of the larger model.
        width: its share of the width, of the heads and of the feed-forward width.
        depth: its share of the layers.
        shares_tables: whether its embeddings will be those of the larger model: where the family
            can project embeddings to its width, they stay as wide.
    """
    config = family.describe(sizes(family, width, depth), *ids(family))
    if shares_tables and hasattr(config, "embedding_size"):
        config.embedding_size = family.config.embedding_size
    model = family.build(config, frozenset({MASKED}))
    found = Family.of(model)
    found.initialize(family.initialization)
    found.check()
    table, own = model.get_input_embeddings(), family.model.get_input_embeddings()
    table.padding_idx = own.padding_idx
    return model


def ids(family: Family) -> tuple[int, int]:
    return family.config.vocab_size, family.config.pad_token_id


def sizes(family: Family, width: float, depth: float) -> ModelConfig:
    """Return the sizes of a smaller model; its heads have an even width."""
    config = family.config
    heads = max(1, round(width * config.num_attention_heads))
    hidden = 2 * heads * max(1, round(width * config.hidden_size / heads / 2))
    deviation = config.initializer_range * math.sqrt(config.hidden_size / hidden)
    return ModelConfig(
        name="smaller",
        pretrained=None,
        resize=False,
        hidden_size=hidden,
        num_hidden_layers=max(1, round(depth * config.num_hidden_layers)),
        num_attention_heads=heads,
        intermediate_size=max(1, round(width * getattr(config, family.feed_forward))),
        max_position_embeddings=family.positions(config),
        dropout=getattr(config, family.dropouts()[0], 0.0) if family.dropouts() else 0.0,
        initializer_range=deviation,
        initialization=family.initialization,
    )
