"""What every family has: how a model is built, read and computed, and where its parts are."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bertexp.families import FAMILIES
from bertexp.families.config import ModelConfig
from bertexp.families.inputs import Inputs
from bertexp.validation import UserError

MASKED, PAIR, LABEL = "masked", "pair", "label"


@dataclass(frozen=True)
class Part:
    """A part of a model.

    Attributes:
        module: its weights; those that another part has too count where they come first.
        products: multiply-adds of the forward pass: of the encoder for each token where every
            position is computed, of a head for each prediction.
        is_head: whether models for other tasks are without it.
    """

    name: str
    module: nn.Module
    products: int = 0
    is_head: bool = False


class Family:
    """A kind of encoder; an instance is one model of it.

    Class methods describe the architecture, before there is a model. The defaults are those of any
    encoder of ``transformers``: all positions computed by its own forward pass.

    Args:
        model: a model of ``transformers``.
    """

    name: ClassVar[str]
    # By the heads that a task needs, the class of `transformers` that has them.
    classes: ClassVar[dict[frozenset[str], str]]
    # The weights of heads, which a checkpoint may lack.
    head_weights: ClassVar[re.Pattern[str]]
    # What its class without heads is made with.
    bare: ClassVar[dict[str, Any]] = {}
    # The rates of dropout in its configuration.
    dropouts: ClassVar[tuple[str, ...]] = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    # Matrices between the hidden states and the inside of the feed-forward part.
    feed_forward_matrices: ClassVar[int] = 2

    def __init__(self, model: Any) -> None:
        self.model = model

    @staticmethod
    def of(model: Any) -> Family:
        """Return a model of ``transformers`` as one of its family."""
        return FAMILIES[model.config.model_type](model)

    @classmethod
    def describe(cls, sizes: ModelConfig, vocab_size: int, pad_id: int) -> Any:
        """Return the configuration of ``transformers`` that ``model.*`` stands for."""
        from transformers import CONFIG_MAPPING

        return CONFIG_MAPPING[cls.name](**cls.settings(sizes, vocab_size, pad_id))

    @classmethod
    def settings(cls, sizes: ModelConfig, vocab_size: int, pad_id: int) -> dict[str, Any]:
        """Return the values that ``describe`` sets."""
        return {
            "vocab_size": vocab_size,
            "hidden_size": sizes.hidden_size,
            "num_hidden_layers": sizes.num_hidden_layers,
            "num_attention_heads": sizes.num_attention_heads,
            "intermediate_size": sizes.intermediate_size,
            "max_position_embeddings": sizes.max_position_embeddings,
            "initializer_range": sizes.initializer_range,
            "pad_token_id": pad_id,
            **dict.fromkeys(cls.dropouts, sizes.dropout),
        }

    @classmethod
    def modeling(cls) -> ModuleType:
        """Return the module that has ``classes``."""
        name = cls.name.replace("-", "_")
        return importlib.import_module(f"transformers.models.{name}.modeling_{name}")

    @classmethod
    def model_class(cls, heads: frozenset[str], key: str = "task") -> Any:
        """Return the class of ``transformers`` with these heads.

        Raises:
            UserError: there is none.
        """
        if heads not in cls.classes:
            known = {head for each in cls.classes for head in each}
            wanted = ", ".join(sorted(heads - known or heads))
            fitting = [name for name in FAMILIES.names() if heads in FAMILIES[name].classes]
            raise UserError(
                f"{key}: needs a model with a head for: {wanted}; the family {cls.name} has "
                f"{', '.join(sorted(known))}; families with all: {', '.join(fitting) or 'none'}."
            )
        return getattr(cls.modeling(), cls.classes[heads])

    @classmethod
    def build(cls, config: Any, heads: frozenset[str]) -> Any:
        """Return a model with these heads, its weights drawn from the global generator."""
        return cls.model_class(heads)(config, **({} if heads else cls.bare))

    @classmethod
    def positions(cls, config: Any) -> int:
        """Return the tokens of the longest input."""
        return int(config.max_position_embeddings)

    @classmethod
    def segments(cls, config: Any) -> int:
        """Return how many kinds of segments a model tells apart."""
        return int(getattr(config, "type_vocab_size", 1))

    @classmethod
    def prepare_labels(cls, config: Any) -> None:
        """Have a configuration's head for labels read what is computed here: the first position."""

    def initialize(self, how: str) -> None:
        """Draw the initial weights that ``model.initialization`` names, if not its own."""

    def use_padding(self, pad_id: int) -> None:
        """Have a model that was loaded pad with another token."""
        self.config.pad_token_id = pad_id
        # Of another token, it would keep that one's embedding as it is.
        self.model.get_input_embeddings().padding_idx = pad_id

    def untie(self, missing: set[str]) -> None:
        """Correct what ``transformers`` gets wrong in a loaded model with untied tables.

        Args:
            missing: names of the weights that were not found; those set here are taken out.
        """

    @property
    def config(self) -> Any:
        """The configuration of ``transformers``."""
        return self.model.config

    @property
    def base(self) -> Any:
        """The encoder without heads."""
        return self.model.base_model

    @property
    def heads(self) -> frozenset[str]:
        """The heads that the model has."""
        name = type(self.model).__name__
        return next((heads for heads, known in self.classes.items() if known == name), frozenset())

    @property
    def word_embeddings_VD(self) -> Tensor:
        """The embedding table."""
        weight: Tensor = self.model.get_input_embeddings().weight
        return weight

    def arguments(
        self, ids_BL: Tensor, mask_BL: Tensor | None = None, types_BL: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the arguments of ``base``, without those the family does not read."""
        found = {"input_ids": ids_BL}
        if mask_BL is not None:
            found["attention_mask"] = mask_BL
        if types_BL is not None and self.segments(self.config) > 1:
            found["token_type_ids"] = types_BL
        return found

    def encode(self, inputs: Inputs) -> Tensor:
        """Return the last hidden states at ``inputs.slots_U``, shape (used, hidden)."""
        hidden_BLD = self.base(
            **self.arguments(
                inputs.input_ids_BL, inputs.attention_mask_BL, inputs.token_type_ids_BL
            )
        ).last_hidden_state
        rows_B1 = torch.arange(len(hidden_BLD), device=hidden_BLD.device)[:, None]
        used_UD: Tensor = hidden_BLD[rows_B1, inputs.queries_BP].flatten(0, 1)[inputs.slots_U]
        return used_UD

    def layer_products(self, length: int) -> int:
        """Return the multiply-adds of one layer for one token, matrix products only."""
        hidden = self.config.hidden_size
        inner = self.feed_forward_matrices * hidden * self.config.intermediate_size
        return int(4 * hidden * hidden + 2 * length * hidden + inner)

    def products(self, inputs: Inputs) -> float:
        """Return the multiply-adds of ``encode``, matrix products only, padding included."""
        each = self.layer_products(inputs.input_ids_BL.shape[1])
        return float(self.config.num_hidden_layers * inputs.input_ids_BL.numel() * each)

    @property
    def decoder(self) -> Any:
        """The linear layer from ``transform`` to the vocabulary."""
        return self.model.get_output_embeddings()

    def transform(self, hidden_MD: Tensor) -> Tensor:
        """Return what the masked tokens' head gives its ``decoder``, of the same shape."""
        raise NotImplementedError

    def pair_logits(self, first_BD: Tensor) -> Tensor:
        """Return two logits a pair from the hidden states of its first token: follows, does not."""
        raise NotImplementedError

    def label_logits(self, first_BD: Tensor) -> Tensor:
        """Return a text's logits of the labels from the hidden states of its first token."""
        raise NotImplementedError

    def masked_logits(self, hidden_MD: Tensor) -> Tensor:
        """Return logits over the vocabulary, shape (predictions, vocabulary)."""
        logits_MV: Tensor = self.decoder(self.transform(hidden_MD))
        return logits_MV

    def head_products(self, classes: int) -> int:
        """Return a head's multiply-adds for one prediction: a square matrix, then the classes."""
        return int(self.config.hidden_size * (self.config.hidden_size + classes))

    def parts(self, length: int) -> list[Part]:
        """Return the parts that make up the model, for inputs of so many tokens."""
        encoder = self.config.num_hidden_layers * self.layer_products(length)
        found = [
            Part("word embeddings", self.model.get_input_embeddings()),
            Part("encoder", self.base, encoder),
        ]
        if MASKED in self.heads:
            head = self.head_products(self.config.vocab_size)
            found.append(Part("masked tokens' head", self.model, head, is_head=True))
        return found

    def compile(self, shapes: frozenset[tuple[int, int]]) -> None:
        """Train with compiled layers where a batch has one of some (examples, tokens).

        Raises:
            UserError: the family cannot.
        """
        raise UserError(f"hardware.compile=true: family={self.name} is not compiled; leave it out.")
