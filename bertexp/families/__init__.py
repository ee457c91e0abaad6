"""Families: the architectures of encoders in ``transformers``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bertexp.registry import Registry
from bertexp.validation import UserError, nearest

if TYPE_CHECKING:
    from bertexp.families.base import Family


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
        close = nearest(name, [*self.names(), *generic_names()])
        raise UserError(
            f"{key or self.key}={name}: must be one of {own}, or any other model_type that "
            f"transformers has a masked-language-model class for.{close}"
        )

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
