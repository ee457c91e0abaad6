"""Models to train: from scratch or from a checkpoint."""

from __future__ import annotations

import logging
from typing import Any

import torch

from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.families import FAMILIES
from bertexp.families.architecture import must_compile, must_read_pairs, read_architecture
from bertexp.families.base import Family
from bertexp.families.checkpoint import add_rows, load_model
from bertexp.families.config import LOADED, TRAINED, FamilyConfig, ModelConfig
from bertexp.validation import UserError

log = logging.getLogger(__name__)


def build_model(
    family: FamilyConfig,
    config: ModelConfig,
    heads: frozenset[str],
    tokenizer: Tokenizer,
    max_length: int,
    seed: int,
) -> Any:
    """Return the model of ``transformers`` to train, in training mode, in float32, on the CPU.

    Args:
        heads: see ``Head.head``.
        tokenizer: what its vocabulary must match; of a checkpoint, see ``check_fit``.
        max_length: the longest input, which its positions must hold.
        seed: for the weights that are drawn; the global generator is left seeded with it.

    Raises:
        UserError: a checkpoint that cannot be loaded, is of no family, or does not fit the
            tokenizer or the length, or sizes that no memory can hold.
    """
    torch.manual_seed(seed)
    if config.pretrained:
        model = load_model(config.pretrained, heads)
        if config.resize and tokenizer.vocab_size > model.config.vocab_size:
            add_rows(model, tokenizer.vocab_size)
    else:
        config.check_memory(tokenizer.vocab_size, LOADED)
        model = new_model(family, config, heads, tokenizer.vocab_size, tokenizer.pad_id)
    if tokenizer.pad_id == tokenizer.closing_id:
        # As padding, the embedding of the closing token would not be trained.
        model.get_input_embeddings().padding_idx = None
    _check_length(model.config, max_length)
    Family.of(model).use_tokens(tokenizer.pad_id, tokenizer.mask_id)
    if not model._supports_sdpa:
        log.info(
            "%s: transformers computes its attention without fused kernels, which is slow and "
            "takes memory in proportion to the square of the length.",
            model.config.model_type,
        )
    return model.train()


def new_model(
    family: FamilyConfig, config: ModelConfig, heads: frozenset[str], vocab_size: int, pad_id: int
) -> Any:
    """Return a model from scratch, its weights drawn from the global generator."""
    kind = FAMILIES[family.name]
    model = kind.build(kind.describe(config, vocab_size, pad_id), heads)
    family_of = kind(model)
    family_of.initialize(config.initialization)
    family_of.check()
    return model


def check_model(
    family: FamilyConfig,
    config: ModelConfig,
    heads: frozenset[str],
    max_length: int,
    device: torch.device,
    reads_pairs: bool,
    is_compiled: bool,
) -> None:
    """Check that a model can be trained, before it is built.

    Raises:
        UserError: a checkpoint that is not there, is of no family, has too few positions, no
            such heads or one kind of segment for a task of pairs, or a model from scratch that no
            memory can hold; or a family that is not compiled, where it should be.
    """
    if config.pretrained:
        found = read_architecture(config.pretrained)
        FAMILIES[found.model_type].model_class(heads)
        _check_length(found, max_length)
    else:
        kind = FAMILIES[family.name]
        kind.model_class(heads)
        # On a GPU there is room for all but the weights, which are made here.
        config.check_memory(0, TRAINED if device.type == "cpu" else LOADED)
        kind.check_scratch(config)
        found = kind.describe(config, vocab_size=1, pad_id=0)
    if reads_pairs:
        must_read_pairs(found, "task")
    if is_compiled:
        must_compile(found)


def build_skeleton(
    family: FamilyConfig, config: ModelConfig, heads: frozenset[str], vocab_size: int
) -> Any:
    """Return a model without weights: its modules and their shapes, in no time and no memory."""
    kind = FAMILIES[family.name]
    with torch.device("meta"):
        return kind.build(kind.describe(config, vocab_size, pad_id=0), heads)


def _check_length(found: Any, max_length: int) -> None:
    positions = FAMILIES[found.model_type].positions(found)
    if max_length > positions:
        raise UserError(f"task.max_length={max_length}: the model has only {positions} positions.")
