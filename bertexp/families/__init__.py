"""Families: the architectures of encoders in ``transformers``.

``kind`` describes and builds a model, ``base`` computes with it; ``bert`` has a fast path, and
``generic`` is any other ``model_type``. ``build`` checks and makes the model of a run,
``checkpoint`` loads and exports it.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from bertexp.registry import Registry
from bertexp.validation import UserError, nearest

if TYPE_CHECKING:
    from bertexp.families.base import Family


# The configurations of some kinds have no setting for one of these keys of `model.*`.
_SIZES = {"hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"}


class Families(Registry[type["Family"]]):
    """Families by the ``model_type`` in their ``config.json``.

    Some have a class of their own; every other ``model_type`` for which ``transformers`` has a
    masked-language-model class is ``Generic``.
    """

    def has(self, name: str) -> bool:
        return super().has(name) or name in generic_names()

    def check(self, name: str, key: str | None = None) -> None:
        if self.has(name):
            return
        own = ", ".join(self.names())
        close = self.nearest(name)
        hint = f" Did you mean '{close}'?" if close else ""
        raise UserError(
            f"{key or self.key}={name}: must be one of {own}, or any other model_type that "
            f"transformers has a masked-language-model class for.{hint}"
        )

    def hint(self, option: str, options: list[str]) -> str:
        """Return how to choose a family that has no option of its own, and the nearest match."""
        close = self.nearest(option)
        meant = f" Did you mean {self.key}={close}?" if close else ""
        return (
            f" Any other model type of transformers is chosen by {self.key}=."
            f"{nearest(option, options) or meant}"
        )

    def nearest(self, name: str) -> str:
        """Return the family most like ``name`` that trains from scratch, or an empty text.

        A short form such as ``xlmr`` has letters of the whole name in their order.
        """
        every = [*self.names(), *generic_names()]
        letters = re.compile(".*".join(map(re.escape, name)))
        longer = sorted(filter(letters.search, every), key=len)
        for each in [*difflib.get_close_matches(name, every), *longer]:
            if super().has(each) or self[each].setting_names() >= _SIZES:
                return each
        return ""

    def __getitem__(self, name: str) -> type[Family]:
        self.check(name)
        if super().has(name):
            return super().__getitem__(name)
        from bertexp.families.generic import generic

        return generic(name)


def generic_names() -> list[str]:
    """Return each ``model_type`` for which ``transformers`` has a masked-language-model class."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return [*MODEL_FOR_MASKED_LM_MAPPING_NAMES]


FAMILIES = Families("family.name", "bertexp.families")
