"""Names a configuration may use, and what each of them builds."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

from bertexp.validation import require_choice

Builder = TypeVar("Builder")


class Registry(Generic[Builder]):
    """Builders by name, filled by the modules of one package.

    The package is imported at the first look-up, so that a new file with a decorated
    builder is all it takes to add a name.

    Args:
        key: the configuration key that selects a name, for error messages.
        package: dotted name of the package whose modules register themselves.

    Attributes:
        all: every registry there is.
        reads: by name the keys that only this builder and some others read, each with all
            below it; see ``bertexp.unread``.
    """

    all: ClassVar[list[Registry[Any]]] = []

    def __init__(self, key: str, package: str) -> None:
        self.key = key
        self._package = package
        self._builders: dict[str, Builder] = {}
        self.reads: dict[str, tuple[str, ...]] = {}
        Registry.all.append(self)

    def register(self, name: str, reads: tuple[str, ...] = ()) -> Callable[[Builder], Builder]:
        """Return a decorator that files its target under ``name``, with the keys it ``reads``."""

        def decorate(builder: Builder) -> Builder:
            assert name not in self._builders, f"{self.key}: '{name}' is registered twice"
            self._builders[name] = builder
            self.reads[name] = reads
            return builder

        return decorate

    def names(self) -> list[str]:
        """Return all registered names, sorted."""
        for module in pkgutil.iter_modules(importlib.import_module(self._package).__path__):
            if module.name != "__main__":
                importlib.import_module(f"{self._package}.{module.name}")
        return sorted(self._builders)

    def check(self, name: str) -> None:
        """Raise a ``UserError`` that says which names exist unless ``name`` is one of them."""
        if name not in self._builders:
            require_choice(self.key, name, self.names())

    def __getitem__(self, name: str) -> Builder:
        """Return the builder called ``name``; a ``UserError`` for a wrong one says which exist."""
        self.check(name)
        return self._builders[name]
