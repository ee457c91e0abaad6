"""Fields of the configuration's dataclasses: their ranges, choices, and when they are read."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Any, get_args, get_type_hints

from omegaconf import DictConfig, ListConfig, OmegaConf

from bertexp.registry import Registry
from bertexp.validation import require, require_choice

READ_WITH = "read_with"
ABOUT = "about"
_WITHIN = "within"
_CHOICES = "choices"
_INTERVAL = re.compile(r"([\[(])(.+), (.+)([])])")


def key(
    default: Any = MISSING,
    *,
    within: str | None = None,
    choices: Iterable[str | bool] | Registry[Any] | None = None,
    read_with: tuple[object, ...] = (),
    about: str = "",
) -> Any:
    """Return a dataclass field whose metadata describe its key, for ``check_values`` and others.

    Args:
        within: an interval of numbers, such as ``(0, 1]`` or ``[1, inf)``, for each item of a list.
        choices: the allowed values, or a registry of them, for each item of a list.
        read_with: another key and values of it, with which alone this key is read; without values,
            any but null, 0, false and an empty one.
        about: what ``--help`` shows for a key that is in no file of ``conf/``.
    """
    metadata: dict[str, Any] = {ABOUT: about, _CHOICES: choices}
    if within:
        metadata[_WITHIN] = Interval.parse(within)
    if read_with:
        metadata[READ_WITH] = (read_with[0], read_with[1:])
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Interval:
    """The numbers between two ends, each included or not."""

    low: float
    high: float
    with_low: bool
    with_high: bool

    @classmethod
    def parse(cls, text: str) -> Interval:
        match = _INTERVAL.fullmatch(text)
        assert match, text
        return cls(float(match[2]), float(match[3]), match[1] == "[", match[4] == "]")

    def __contains__(self, value: float) -> bool:
        above = self.low <= value if self.with_low else self.low < value
        return above and (value <= self.high if self.with_high else value < self.high)

    def __str__(self) -> str:
        low, high = (f"{bound:,.15g}" for bound in (self.low, self.high))
        if self.with_low == self.with_high and math.isfinite(self.high):
            return f"between {low} and {high}" + ("" if self.with_low else ", both excluded")
        least = f"at least {low}" if self.with_low else f"above {low}"
        if math.isinf(self.high):
            return least
        return f"{least} and " + (f"at most {high}" if self.with_high else f"below {high}")


def walk(schema: Any) -> list[tuple[str, Field[Any], Any]]:
    """Return the dotted name, field and type of each group and key, a group before its keys."""
    return _walked(schema, "")


@functools.cache
def _walked(schema: Any, prefix: str) -> list[tuple[str, Field[Any], Any]]:
    hints: dict[str, Any] = get_type_hints(schema)
    found = []
    for each in fields(schema):
        name = f"{prefix}{each.name}"
        found.append((name, each, hints[each.name]))
        if is_dataclass(hints[each.name]):
            found += _walked(hints[each.name], f"{name}.")
    return found


def check_values(schema: type, values: DictConfig) -> None:
    """Raise a ``UserError`` for a value outside of its key's range or fixed choices."""
    for name, each, kind in walk(schema):
        choices, interval = each.metadata.get(_CHOICES), each.metadata.get(_WITHIN)
        if isinstance(choices, Registry) or not (choices or interval):
            continue
        value = OmegaConf.select(values, name)
        for one in _each(value):
            if choices:
                require_choice(name, one, choices)
            if interval and one not in interval:
                finite = " and finite" if math.isinf(one) and math.isinf(interval.high) else ""
                null = ", or null" if type(None) in get_args(kind) else ""
                allowed = f"{interval}{finite}{null}"
                several = isinstance(value, ListConfig)
                require(False, name, value, f"{allowed}, each of them" if several else allowed)


def check_parts(schema: type, values: DictConfig) -> None:
    """Raise a ``UserError`` for a name without a registered part; imports the registered ones."""
    for name, each, _ in walk(schema):
        if isinstance(choices := each.metadata.get(_CHOICES), Registry):
            for one in _each(OmegaConf.select(values, name)):
                choices.check(one, name)


def _each(value: Any) -> Iterable[Any]:
    if isinstance(value, ListConfig):
        return value
    return [] if value is None else [value]


def is_below(key: str, *prefixes: str) -> bool:
    """Whether a dotted key is one of ``prefixes`` or below one."""
    return any(f"{key}.".startswith(f"{prefix}.") for prefix in prefixes)


def flattened(
    values: Mapping[str, Any], whole: Collection[str] = (), prefix: str = ""
) -> dict[str, Any]:
    """Return nested values by their dotted keys; a key in ``whole`` keeps a nested value."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        is_nested = isinstance(value, Mapping) and value and key not in whole
        flat |= flattened(value, whole, f"{key}.") if is_nested else {key: value}
    return flat
