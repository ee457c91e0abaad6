"""Names that a configuration may use, what each of them builds, and its own keys."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import field, fields, is_dataclass, make_dataclass
from typing import Any, ClassVar, Generic, TypeVar, get_type_hints

from bertexp.validation import UserError, require_choice

Builder = TypeVar("Builder")
S = TypeVar("S")


class Registry(Generic[Builder]):
    """Builders by name, filled by the modules of one package and by plugins.

    The package is imported at the first look-up, so that a new file with a decorated builder is
    all it takes to add a name.

    Args:
        key: the configuration key that selects a name, for error messages.
        package: dotted name of the package whose modules register themselves.
        beside: an earlier registry; a key that builders of both read is read if one of them does.
        later: a key with a list of [share of the budget, name], of builders that come later.

    Attributes:
        all: every registry.
        own: by name, the dataclass of the builder's own keys, ``<group>.<name>.*``.
    """

    all: ClassVar[list[Registry[Any]]] = []

    def __init__(
        self, key: str, package: str, beside: Registry[Any] | None = None, later: str | None = None
    ) -> None:
        self.key, self.beside, self.later = key, beside, later
        self.group = key.rpartition(".")[0]
        self.own: dict[str, type] = {}
        self._package = package
        self._builders: dict[str, Builder] = {}
        self._reads: dict[str, tuple[str, ...]] = {}
        Registry.all.append(self)

    def register(
        self, name: str, *, keys: type | None = None, reads: tuple[str, ...] = ()
    ) -> Callable[[Builder], Builder]:
        """Return a decorator that registers its target under ``name``.

        Args:
            keys: a dataclass of its own keys, all with defaults, see ``own_keys``.
            reads: other keys that not every builder reads, each with all keys below it.
        """
        if keys:
            self.own_keys(name)(keys)

        def decorate(builder: Builder) -> Builder:
            self._put(self._builders, name, builder)
            self._reads[name] = reads
            return builder

        return decorate

    def own_keys(self, name: str) -> Callable[[type[S]], type[S]]:
        """Return a decorator for a dataclass: its fields become the keys ``<group>.<name>.*``.

        Its module is loaded before a configuration is composed, so it stands apart from builders
        that take long to import.
        """

        def decorate(keys: type[S]) -> type[S]:
            keys()  # an error if one has no default
            self._put(self.own, name, keys)
            return keys

        return decorate

    def _put(self, parts: dict[str, Any], name: str, part: Any) -> None:
        # A notebook's cell may run again.
        if name in parts and _origin(parts[name]) != _origin(part):
            raise UserError(f"{self.key}: '{name}' is registered twice.")
        parts[name] = part

    def forget(self, module: str) -> None:
        """Remove what a module has registered."""
        for found in (self._builders, self.own):
            for name in [name for name, each in found.items() if _origin(each)[0] == module]:
                del found[name]

    def keys_of(self, part: Any, kind: type[S]) -> S:
        name = next(name for name, keys in self.own.items() if keys is kind)
        found: S = getattr(part, name, None) or kind()
        return found

    def reads(self, name: str) -> tuple[str, ...]:
        """Return the keys that a builder reads and others do not, each with all keys below it."""
        self.check(name)  # imports it in a process that has not yet
        own = (f"{self.group}.{name}",) if name in self.own else ()
        return (*self._reads.get(name, ()), *own)

    def names(self) -> list[str]:
        for module in pkgutil.iter_modules(importlib.import_module(self._package).__path__):
            if module.name != "__main__":
                importlib.import_module(f"{self._package}.{module.name}")
        return sorted(self._builders)

    def has(self, name: str) -> bool:
        return name in self._builders or name in self.names()

    def check(self, name: str, key: str | None = None) -> None:
        """Raise a ``UserError`` that lists the registered names unless ``name`` is one of them.

        ``key`` is the key it was found at, if not the registry's own.
        """
        if not self.has(name):
            require_choice(key or self.key, name, self.names())

    def __getitem__(self, name: str) -> Builder:
        """Return the builder called ``name``; a ``UserError`` for an unknown one lists names."""
        self.check(name)
        return self._builders[name]


def with_own_keys(schema: type[S], group: str = "") -> type[S]:
    """Return a subclass of the schema whose groups have the registered builders' own keys."""
    owned = tuple((each.group, *item) for each in Registry.all for item in each.own.items())
    plain: Any = getattr(schema, "plain", schema)
    extended: type[S] = _extended(plain, group, owned)
    return extended


@functools.cache
def _extended(schema: Any, group: str, owned: tuple[tuple[str, str, type], ...]) -> Any:
    hints: dict[str, Any] = get_type_hints(schema)
    found: list[tuple[str, Any, Any]] = []
    for each in fields(schema):
        kind = hints[each.name]
        if is_dataclass(kind):
            below = f"{group}.{each.name}".lstrip(".")
            extended = _extended(kind, below, owned)  # type: ignore[arg-type]  # a class
            if extended is not kind:
                found.append((each.name, extended, field(metadata=each.metadata)))
    for _, name, keys in (each for each in owned if each[0] == group and group):
        if name in hints:
            raise UserError(f"{group}.{name}: is a key already, so {keys.__name__} cannot be it.")
        found.append((name, keys, field(default_factory=keys)))
    if not found:
        return schema
    return make_dataclass(
        schema.__name__,
        found,
        bases=(schema,),
        kw_only=True,
        namespace={
            "plain": schema,
            # The class is in no module, so a process that unpickles an instance builds it anew.
            "__reduce__": lambda part: (_remade, (schema, group, vars(part))),
        },
    )


def _remade(schema: type[S], group: str, values: dict[str, Any]) -> S:
    extended = with_own_keys(schema, group)
    part = object.__new__(extended)
    vars(part).update(values)
    return part


def _origin(part: Any) -> tuple[str, object]:
    """Return the module that a part is of, and what it is there: a lambda or an object, itself."""
    while isinstance(part, functools.partial):
        part = part.func
    name = getattr(part, "__qualname__", "<object>")
    return part.__module__, part if name.endswith(">") else name
