"""Any encoder of ``transformers`` with a masked-language-model class, by its ``model_type``."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from bertexp.families.architecture import check_plain, quiet
from bertexp.families.base import LABEL, MASKED, Family
from bertexp.families.config import ModelConfig
from bertexp.validation import UserError, first_line

# A padding id that is no model's default, so that it can be recognised.
_PAD = 5


class Generic(Family):
    """A family without a class of its own; its logits are checked against ``transformers``.

    From scratch ``transformers`` builds the model from the sizes of ``model.*``, with its defaults
    for the rest. ESM's ``token_dropout``, which its published checkpoints set, is part of the
    model and stays on: it sets the embeddings of ``<mask>`` to 0 and scales the others according
    to the number of masks.
    """

    # The value of `classifier_pooling` with which a head for labels reads the first position.
    first: ClassVar[str | None] = None

    @classmethod
    def settings(cls, sizes: ModelConfig, vocab_size: int, pad_id: int) -> dict[str, Any]:
        found = super().settings(sizes, vocab_size, pad_id)
        if lacking := [name for name in found if name not in cls.setting_names()]:
            raise UserError(
                f"family.name={cls.name}: its configuration has no {lacking[0]}, so that model.* "
                "cannot set its size."
            )
        # One kind of segment, as in all published models derived from RoBERTa.
        return found | ({"type_vocab_size": 1} if cls._has_idle_segments() else {})

    @classmethod
    def _has_idle_segments(cls) -> bool:
        return cls.positions_follow_padding and "type_vocab_size" in cls.setting_names()

    @classmethod
    def check_scratch(cls, sizes: ModelConfig) -> None:
        from transformers import CONFIG_MAPPING

        named = f"family.name={cls.name}"
        made: Any = CONFIG_MAPPING[cls.name]
        check_plain(made().to_dict(), cls.setting_names(), named)
        with quiet(), torch.random.fork_rng(devices=[]):
            try:
                config = cls.describe(replace(sizes, num_hidden_layers=1), 64, 1)
                model = cls.build(config, frozenset({MASKED}))
            except UserError:
                raise
            except Exception as error:  # the type depends on the model's code
                names = ("hidden_size", "num_attention_heads", "intermediate_size")
                raise UserError(
                    f"{named}: transformers builds none with these sizes of model.* "
                    f"({', '.join(f'{name}={getattr(sizes, name)}' for name in names)}): "
                    f"{first_line(error)}."
                ) from error
        cls(model).check()

    @classmethod
    def prepare_labels(cls, config: Any) -> None:
        if cls.first:
            config.classifier_pooling = cls.first

    def check(self) -> None:
        """Compare the logits with those of ``transformers``, for a few tokens.

        Weights that do not affect them are frozen: they get no gradient, and several processes
        would wait for one.

        Raises:
            UserError: the logits differ.
        """
        model, training = self.model, self.model.training
        if not self.heads:
            return
        first = (self.config.pad_token_id or 0) + 1
        ids_BL = (torch.arange(8).view(2, 4) + first) % self.config.vocab_size
        try:
            with quiet():
                expected_NC = model.eval()(ids_BL).logits
                found_NC = self._logits(ids_BL).view_as(expected_NC)
        except Exception as error:  # the type depends on the model's code
            raise UserError(f"{self._why_not} ({first_line(error)}).") from error
        if not torch.allclose(found_NC, expected_NC, atol=1e-4, rtol=1e-4):
            raise UserError(f"{self._why_not}.")
        found_NC.sum().backward()
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.grad is not None)
        model.zero_grad()
        model.train(training)

    @property
    def _why_not(self) -> str:
        return (
            f"family.name={self.name}: the head of a {type(self.model).__name__} is not one that "
            "bertexp can compute where something is predicted only"
        )

    def _logits(self, ids_BL: Tensor) -> Tensor:
        hidden_BLD = self.base(**self.arguments(ids_BL)).last_hidden_state
        if LABEL in self.heads:
            return self.label_logits(hidden_BLD[:, 0])
        return self.masked_logits(hidden_BLD.flatten(0, 1))


@cache
def generic(name: str) -> type[Generic]:
    """Return the family of a ``model_type``."""
    attributes: dict[str, Any] = {"name": name, "first": "bos" if name == "eurobert" else None}
    row = _padding_row(name)
    if row == _PAD:
        attributes["positions_follow_padding"] = True
    elif row is not None:
        attributes["first_position"] = row + 1
    return type(name, (Generic,), attributes)


def _padding_row(name: str) -> int | None:
    """Return the padding row of the position table, which models derived from RoBERTa have.

    It equals the padding id, here ``_PAD``, except in MPNet.
    """
    from transformers import CONFIG_MAPPING, AutoModel

    try:
        with quiet(), torch.device("meta"):
            made: Any = CONFIG_MAPPING[name]
            config = made(vocab_size=64, num_hidden_layers=1, pad_token_id=_PAD)
            model = AutoModel.from_config(config)
    except Exception:  # other sizes are required, so it is refused when it is built
        return None
    tables = [each for part, each in model.named_modules() if part.endswith("position_embeddings")]
    return getattr(tables[0], "padding_idx", None) if tables else None
