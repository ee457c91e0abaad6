"""BERT models of ``transformers``: from scratch or from a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.families.checkpoint import (
    MODEL_CLASSES,
    add_rows,
    bert_class,
    load_model,
    must_read_pairs,
    read_architecture,
)
from bertexp.families.config import ModelConfig
from bertexp.families.initialization import look_at_neighbours
from bertexp.families.memory import LOADED, TRAINED, check_memory
from bertexp.validation import UserError

if TYPE_CHECKING:
    from transformers import BertConfig, BertPreTrainedModel


def build_model(
    config: ModelConfig,
    heads: frozenset[str],
    tokenizer: Tokenizer,
    max_length: int,
    seed: int,
) -> BertPreTrainedModel:
    """Return the model to train, in training mode, in float32, on the CPU.

    Args:
        config: size or checkpoint.
        heads: what of a model is needed, see ``Head.head``.
        tokenizer: what its vocabulary must match; of a checkpoint, see ``check_fit``.
        max_length: the longest input, which its positions must hold.
        seed: for the weights that are drawn; the global generator is left seeded with it.

    Raises:
        UserError: a checkpoint that cannot be loaded, is no BERT, or does not fit the
            tokenizer or the length, or sizes that no memory can hold.
    """
    torch.manual_seed(seed)
    if config.pretrained:
        model = load_model(config.pretrained, heads)
        if config.resize and tokenizer.vocab_size > model.config.vocab_size:
            add_rows(model, tokenizer.vocab_size)
        # Of another token, it would keep that one's embedding as it is.
        model.config.pad_token_id = tokenizer.pad_id
        embeddings: Any = model.get_input_embeddings()
        embeddings.padding_idx = tokenizer.pad_id
    else:
        check_memory(config, tokenizer.vocab_size, LOADED)
        model = bert_class(MODEL_CLASSES[heads])(
            bert_config(config, tokenizer.vocab_size, pad_id=tokenizer.pad_id)
        )
        if config.initialization == "local":
            look_at_neighbours(model)
    _check_length(model.config, max_length)
    return model.train()


def check_model(
    config: ModelConfig, max_length: int, device: torch.device, reads_pairs: bool
) -> None:
    """Look whether a model can be trained, before it is there.

    Raises:
        UserError: a checkpoint that is not there, is no BERT, has too few positions or one kind of
            segment for a task of pairs, or a model from scratch that no memory can hold.
    """
    if config.pretrained:
        found = read_architecture(config.pretrained)
        _check_length(found, max_length)
        if reads_pairs:
            must_read_pairs(found, "task")
    else:
        # On a GPU there is room for all but the weights, which are made here.
        check_memory(config, 0, TRAINED if device.type == "cpu" else LOADED)


def build_skeleton(config: BertConfig, heads: frozenset[str]) -> BertPreTrainedModel:
    """Return a model without weights: its modules and their shapes, in no time and no memory."""
    with torch.device("meta"):
        return bert_class(MODEL_CLASSES[heads])(config)


def bert_config(config: ModelConfig, vocab_size: int, pad_id: int = 0) -> BertConfig:
    """Return what ``model.*`` means for a vocabulary, for a model from scratch."""
    from transformers import BertConfig

    return BertConfig(
        vocab_size=vocab_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        max_position_embeddings=config.max_position_embeddings,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
        initializer_range=config.initializer_range,
        pad_token_id=pad_id,
    )


def _check_length(found: BertConfig, max_length: int) -> None:
    if max_length > found.max_position_embeddings:
        raise UserError(
            f"task.max_length={max_length}: the model has only {found.max_position_embeddings} "
            "positions."
        )
