"""Building the model to train, from scratch or from a checkpoint."""

from __future__ import annotations

import copy
import logging
from typing import Any

import numpy as np
import torch

from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.families import FAMILIES
from bertexp.families.architecture import (
    check_compiles,
    check_pairs,
    check_weights,
    read_architecture,
)
from bertexp.families.base import Family
from bertexp.families.checkpoint import add_rows, load_model
from bertexp.families.config import LOADED, TRAINED, FamilyConfig, ModelConfig
from bertexp.families.trials import check_restricted
from bertexp.validation import UserError

log = logging.getLogger(__name__)

_WITHOUT_FUSED_KERNELS = (
    "%s: transformers computes its attention without fused kernels, which is slow and takes memory "
    "in proportion to the square of the length."
)


def build_model(
    family: FamilyConfig,
    config: ModelConfig,
    heads: frozenset[str],
    tokenizer: Tokenizer,
    max_length: int,
    seed: int,
    counts_V: np.ndarray | None = None,
) -> Any:
    """Return the model of ``transformers`` to train, in training mode, in float32, on the CPU.

    Args:
        heads: see ``Head.head``.
        tokenizer: sets the size of the vocabulary; with a checkpoint, see ``check_fit``.
        seed: for the initial weights; the global generator is reseeded with it.
        counts_V: how often each token occurs in the training text, for ``model.initialization``.

    Raises:
        UserError: the checkpoint cannot be loaded, is not supported or does not fit the tokenizer
            or the length, or the model does not fit in memory.
    """
    torch.manual_seed(seed)
    if config.pretrained:
        model = load_model(config.pretrained, heads)
        if config.resize and tokenizer.vocab_size > model.config.vocab_size:
            add_rows(model, tokenizer.vocab_size)
    else:
        config.check_memory(tokenizer.vocab_size, LOADED)
        model = new_model(family, config, heads, tokenizer.vocab_size, tokenizer.pad_id, counts_V)
    if tokenizer.pad_id == tokenizer.closing_id:
        # The row at padding_idx gets no gradient, but this one is the closing token's.
        model.get_input_embeddings().padding_idx = None
    _check_length(model.config, max_length)
    Family.of(model).use_tokens(tokenizer.pad_id, tokenizer.mask_id)
    if not model._supports_sdpa:
        log.info(_WITHOUT_FUSED_KERNELS, model.config.model_type)
    return model.train()


def new_model(
    family: FamilyConfig,
    config: ModelConfig,
    heads: frozenset[str],
    vocab_size: int,
    pad_id: int,
    counts_V: np.ndarray | None = None,
) -> Any:
    """Return a model from scratch, its weights drawn from the global generator."""
    kind = FAMILIES[family.name]
    model = kind.build(kind.describe(config, vocab_size, pad_id), heads)
    family_of = kind(model)
    family_of.initialize(config.initialization, counts_V)
    model.drawn = config.initialization
    family_of.check()
    return model


def untrained(model: Any) -> Any:
    """Return a model with the architecture and heads of another, but initial weights.

    They are as ``transformers`` draws them, always from the same seed.
    """
    family = Family.of(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return family.build(copy.deepcopy(model.config), family.heads)


def with_heads(model: Any, heads: frozenset[str]) -> Any:
    """Return a trained model with only some of its heads; they share the weights."""
    family = Family.of(model)
    # An objective may have had a head of its own instead.
    if not (heads := heads & family.heads):
        return family.base
    with torch.device("meta"):
        kept = family.build(model.config, heads)
    kept.load_state_dict(model.state_dict(), strict=False, assign=True)
    kept.tie_weights()
    return kept


def check_model(
    family: FamilyConfig,
    config: ModelConfig,
    heads: frozenset[str],
    max_length: int,
    device: torch.device,
    reads_pairs: bool,
    is_compiled: bool,
    task: str,
    restricts: bool = False,
) -> Any:
    """Check that a model can be trained, before it is built; returns its configuration.

    Args:
        task: what needs the heads, for error messages.
        restricts: whether positions attend to some of the others only.

    Raises:
        UserError: the checkpoint cannot be read, or has too few positions or (for pairs) segments;
            the family lacks what is needed; or a model from scratch does not fit in memory.
    """
    if config.pretrained:
        found = read_architecture(config.pretrained)
        check_weights(config.pretrained, FAMILIES[found.model_type].model_class(heads, task))
        _check_length(found, max_length)
    else:
        kind = FAMILIES[family.name]
        kind.model_class(heads, task)
        # With a GPU, only the weights take main memory, where they are created.
        config.check_memory(0, TRAINED if device.type == "cpu" else LOADED)
        kind.check_scratch(config)
        found = kind.describe(config, vocab_size=1, pad_id=0)
    if reads_pairs:
        check_pairs(found, task)
    if is_compiled:
        check_compiles(found)
    if restricts:
        check_restricted(found, task)
    return found


def build_skeleton(
    family: FamilyConfig, config: ModelConfig, heads: frozenset[str], vocab_size: int
) -> Any:
    """Return a model on the ``meta`` device: modules and shapes without weights."""
    kind = FAMILIES[family.name]
    with torch.device("meta"):
        return kind.build(kind.describe(config, vocab_size, pad_id=0), heads)


def _check_length(found: Any, max_length: int) -> None:
    positions = FAMILIES[found.model_type].positions(found)
    if max_length > positions:
        raise UserError(f"task.max_length={max_length}: the model has only {positions} positions.")
