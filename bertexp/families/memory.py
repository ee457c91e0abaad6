"""Whether a model from scratch fits into the machine's memory: said before it is full."""

from __future__ import annotations

import psutil

from bertexp.families.config import ModelConfig
from bertexp.validation import UserError

# In float32: the weights; and with them their gradients and Adam's two moments.
LOADED, TRAINED = 4, 16


def check_memory(config: ModelConfig, vocab_size: int, bytes_each: int) -> None:
    """Refuse a model whose parameters alone are more than all memory there is.

    Args:
        config: the sizes.
        vocab_size: words in the embedding table; 0 where they are not known yet.
        bytes_each: for each parameter, ``LOADED`` or ``TRAINED``.

    Raises:
        UserError: it does not fit.
    """
    needed, there = bytes_each * _parameters(config, vocab_size), psutil.virtual_memory().total
    if needed > there:
        raise UserError(
            f"model.hidden_size={config.hidden_size}, "
            f"model.num_hidden_layers={config.num_hidden_layers}: must be less; "
            f"the model needs at least {needed / 1e9:,.0f} GB, this machine has "
            f"{there / 1e9:,.0f} GB."
        )


def _parameters(config: ModelConfig, vocab_size: int) -> int:
    """Return the number of weights in the matrices of a BERT, heads left out."""
    hidden = config.hidden_size
    layer = 4 * hidden * hidden + 2 * hidden * config.intermediate_size
    rows = vocab_size + config.max_position_embeddings
    return config.num_hidden_layers * layer + rows * hidden
