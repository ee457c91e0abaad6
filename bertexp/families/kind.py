"""Kinds of encoders: their configurations and classes in ``transformers``."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, ClassVar

from bertexp.families import FAMILIES
from bertexp.families.config import ModelConfig
from bertexp.families.heads import made_with
from bertexp.validation import UserError

MASKED, PAIR, LABEL, REPLACED = "masked", "pair", "label", "replaced"
# The remedy where a tokenizer does not fit a checkpoint; it may have none in its folder.
USE_CHECKPOINT_TOKENIZER = (
    "leave tokenizer out to take its own, or if it has none, set tokenizer=pretrained "
    "tokenizer.path=..."
)

# Names of the encoder's dropout rates in configurations of ``transformers``.
_DROPOUTS = (
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "hidden_dropout", "dropout"),
    *("embedding_dropout", "attention_dropout", "mlp_dropout", "activation_dropout"),
)
# Ids of the published models' tokens, which differ in other vocabularies.
_TOKENS = ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")
# Settings that only models with rotary positions have (Su et al. 2021).
_ROTARY = {"rope_parameters", "rotary_value"}
# What the inputs of a head are, for error messages.
_READS = {MASKED: "masked tokens", PAIR: "sentence pairs", LABEL: "labels"}


class Kind:
    """An architecture; the defaults suit any encoder of ``transformers``."""

    # The `model_type` of its configuration.
    name: ClassVar[str]
    # The setting in its configuration for the width of the feed-forward part.
    feed_forward: ClassVar[str] = "intermediate_size"
    # The index of the first position, unless `positions_follow_padding`: then `pad_id + 1`.
    first_position: ClassVar[int] = 0
    positions_follow_padding: ClassVar[bool] = False
    # Whether it supports `hardware.compile`: its layers are `Compilable`.
    compiles: ClassVar[bool] = False

    @classmethod
    def as_option(cls) -> str:
        """Return the override that chooses it: only registered families have a file."""
        if cls.name in FAMILIES.names():
            return f"family={cls.name.replace('-', '_')}"
        return f"family.name={cls.name}"

    @classmethod
    def classes(cls) -> dict[frozenset[str], str]:
        """Return the classes of ``transformers`` by the heads that a task needs."""
        from transformers.models.auto import modeling_auto as auto

        found = {
            frozenset(heads): names.get(cls.name)
            for heads, names in (
                ((), auto.MODEL_MAPPING_NAMES),
                ((MASKED,), auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES),
                ((LABEL,), auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES),
            )
        }
        # If there are several classes without heads, the first is the whole encoder.
        return {k: n if isinstance(n, str) else n[0] for k, n in found.items() if n}

    @classmethod
    def known(cls, heads: frozenset[str]) -> frozenset[str]:
        """Return those of ``heads`` that a model can have.

        Where ``transformers`` has none for replaced tokens, the objective builds its own.
        """
        return heads if heads in cls.classes() else heads - {REPLACED}

    @classmethod
    def setting_names(cls) -> set[str]:
        from transformers import CONFIG_MAPPING

        made: Any = CONFIG_MAPPING[cls.name]
        return {*(each.name for each in fields(made)), *made.attribute_map}

    @classmethod
    def dropouts(cls) -> tuple[str, ...]:
        """Return the names of the dropout rates in its configuration."""
        known = cls.setting_names()
        return tuple(name for name in _DROPOUTS if name in known)

    @classmethod
    def describe(cls, sizes: ModelConfig, vocab_size: int, pad_id: int) -> Any:
        """Return the configuration of ``transformers`` for the sizes of ``model.*``.

        Raises:
            UserError: the heads' size is odd, and rotary positions rotate pairs of values.
        """
        from transformers import CONFIG_MAPPING

        size = sizes.hidden_size // sizes.num_attention_heads
        if size % 2 and _ROTARY & cls.setting_names():
            raise UserError(
                f"model.hidden_size={sizes.hidden_size}, model.num_attention_heads="
                f"{sizes.num_attention_heads}: gives heads of size {size}; {cls.as_option()} "
                "rotates pairs, so it must be even."
            )
        return CONFIG_MAPPING[cls.name](**cls.settings(sizes, vocab_size, pad_id))

    @classmethod
    def settings(cls, sizes: ModelConfig, vocab_size: int, pad_id: int) -> dict[str, Any]:
        """Return the values that ``describe`` sets."""
        offset = cls._offset(pad_id)
        return {
            "vocab_size": vocab_size,
            "hidden_size": sizes.hidden_size,
            "num_hidden_layers": sizes.num_hidden_layers,
            "num_attention_heads": sizes.num_attention_heads,
            cls.feed_forward: sizes.intermediate_size,
            "max_position_embeddings": sizes.max_position_embeddings + offset,
            "initializer_range": sizes.initializer_range,
            "pad_token_id": pad_id,
            **dict.fromkeys(cls.dropouts(), sizes.dropout),
            **dict.fromkeys(cls.setting_names().intersection(_TOKENS)),
        }

    @classmethod
    def model_class(cls, heads: frozenset[str], key: str = "task") -> Any:
        """Return the class of ``transformers`` with these heads.

        Raises:
            UserError: there is none.
        """
        import transformers

        classes, heads = cls.classes(), cls.known(heads)
        if heads not in classes:
            known = {head for each in classes for head in each}
            lacking = " and ".join(_READS[head] for head in sorted(heads - known or heads))
            others = [FAMILIES[name] for name in FAMILIES.names()]
            fitting = [each.as_option() for each in others if heads in each.classes()]
            hint = f"; {', '.join(fitting)} {'has' if len(fitting) == 1 else 'have'}"
            raise UserError(
                f"{key}: needs {lacking}, which {cls.as_option()} has no head for"
                f"{hint if fitting else ''}."
            )
        return getattr(transformers, classes[heads])

    @classmethod
    def build(cls, config: Any, heads: frozenset[str]) -> Any:
        """Return a model with these heads, its weights drawn from the global generator."""
        model_class = cls.model_class(heads)
        return model_class(config, **made_with(model_class, cls.known(heads)))

    @classmethod
    def check_scratch(cls, sizes: ModelConfig) -> None:
        """Raise a ``UserError`` unless a model can be built from ``model.*`` and trained."""

    @classmethod
    def positions(cls, config: Any) -> int:
        """Return the number of tokens of the longest possible input."""
        return int(config.max_position_embeddings - cls._offset(config.pad_token_id))

    @classmethod
    def _offset(cls, pad_id: int) -> int:
        return pad_id + 1 if cls.positions_follow_padding else cls.first_position

    @classmethod
    def segments(cls, config: Any) -> int:
        return max(1, int(getattr(config, "type_vocab_size", None) or 1))

    @classmethod
    def prepare_labels(cls, config: Any) -> None:
        """Make the head for labels read the first position, as it does here."""
