"""Settings that the user wrote and the run does not read: an error instead of silence.

The condition under which a key is read is declared in its dataclass (``key(read_with=...)``), or
where the class that reads it is registered (``keys``, ``reads``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from bertexp.console import value_text
from bertexp.files import conf_dir
from bertexp.keys import READ_WITH, flattened, is_below, walk
from bertexp.plugins import conf_folders
from bertexp.registry import Registry
from bertexp.validation import UserError

if TYPE_CHECKING:
    from hydra.conf import HydraConf

COMMAND_LINE = "the command line"
# A size is for any run, whatever that run reads.
SIZES = "size"
STUDIES = "experiment"
# The condition of what a checkpoint has its own of.
FROM_SCRATCH = ("model.pretrained", (None,))
_PACKAGE = re.compile(r"^#\s*@package\s+(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Condition:
    """``prefix`` and all keys below it are read only where ``key`` has one of ``values``.

    ``other`` is a second condition under which they are read. Of pairs [share, value] at ``later``
    any value counts.
    """

    prefix: str
    key: str
    values: tuple[object, ...]
    other: Condition | None = None
    later: str | None = None

    def is_about(self, key: str) -> bool:
        """Whether a dotted key or a group is read under this condition."""
        return is_below(key, self.prefix)

    def holds(self, config: DictConfig) -> bool:
        if self.other and self.other.holds(config):
            return True
        found = OmegaConf.select(config, self.key)
        if not self.values:
            return bool(found)
        chosen = [*found] if isinstance(found, ListConfig | DictConfig) else [found]
        pairs = (OmegaConf.select(config, self.later) if self.later else None) or []
        chosen += [pair[1] for pair in pairs if isinstance(pair, ListConfig) and len(pair) == 2]
        return any(value in self.values for value in chosen)

    def chosen_by(self, keys: Iterable[str]) -> bool:
        """Whether one of ``keys``, dotted keys and groups, decides if the condition holds."""
        decisive = is_below(self.key, *keys)
        return decisive or bool(self.other and self.other.chosen_by(keys))

    def explained(self, key: str, config: DictConfig) -> str:
        """Return, as an error, what would read ``key``."""
        if not self.values:
            return f"{key} is read only where {self.key} is set: set it, or leave {key} out"
        if (self.key, self.values) == FROM_SCRATCH:
            found = OmegaConf.select(config, key)
            value = found.get("name") if isinstance(found, DictConfig) else found
            return (
                f"{key}={value}: a checkpoint brings its own; leave {key} out, or, to train from "
                f"scratch, leave {self.key} out and choose a size such as model=tiny"
            )
        options = self._options()
        readers = " or ".join(filter(None, (", ".join(options[:-1]), options[-1])))
        now = self._setting(OmegaConf.select(config, self.key))
        add = f"add {options[0]}" if len(options) == 1 else "choose one"
        return f"{key} is read by {readers} only, and this run has {now}: {add}, or leave {key} out"

    def _options(self) -> list[str]:
        own = [self._option(value) for value in self.values]
        return [*own, *(self.other._options() if self.other else ())]

    def _option(self, value: object) -> str:
        """Return the override that a user chooses a value by."""
        roots = (conf_dir(), *conf_folders())
        has_file = any((root / "task" / f"{value}.yaml").is_file() for root in roots)
        is_task = self.key == "task.objectives" and has_file
        return f"task={value}" if is_task else self._setting(value)

    def _setting(self, value: object) -> str:
        """Return the override that sets the key to a value; a group's name is set by its option."""
        group, _, last = self.key.rpartition(".")
        key = group if last == "name" and "." not in group else self.key
        return f"{key}={value_text(value)}"


def conditions(*schemas: type[Any]) -> list[Condition]:
    """Return the conditions under which keys of some schemas are read."""
    found = dict.fromkeys(
        Condition(name, *field.metadata[READ_WITH])
        for schema in schemas
        for name, field, _ in walk(schema)
        if READ_WITH in field.metadata
    )
    varied = {key for schema in schemas for key in schema.varies}
    of_builders: dict[tuple[str, str], Condition] = {}
    for registry in (each for each in Registry.all if each.key not in varied):
        names: dict[str, list[str]] = {}
        for name in registry.names():
            for prefix in registry.reads(name):
                names.setdefault(prefix, []).append(name)
        for prefix, every in names.items():
            one = Condition(prefix, registry.key, tuple(every), later=registry.later)
            beside = registry.beside and (registry.beside.key, prefix)
            if beside in of_builders:
                of_builders[beside] = replace(of_builders[beside], other=one)
            else:
                of_builders[registry.key, prefix] = one
    return [*found, *of_builders.values()]


def unmet_by(phases: Sequence[DictConfig]) -> list[Condition]:
    """Return when keys of single objectives, strategies and the like are read, if no phase does."""
    every = [(each, name) for each in Registry.all for name in each.own]
    found = [Condition(f"{r.group}.{name}", r.key, (name,), later=r.later) for r, name in every]
    return [each for each in found if not any(each.holds(phase) for phase in phases)]


def written(hydra: HydraConf | DictConfig) -> dict[str, str]:
    """Return the keys and groups that the user wrote, and where: all but defaults and sizes."""
    found = _in_files(hydra)
    return found | dict.fromkeys(written_keys(hydra.overrides.task), COMMAND_LINE)


def written_keys(overrides: Iterable[str]) -> Iterator[str]:
    """Yield the dotted keys and groups that overrides set to something."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.key_or_group.replace("/", ".")
        yield from [key] if override.is_sweep_override() else _set_keys({key: override.value()})


def unread(
    found: Mapping[str, str], config: DictConfig, every: Iterable[Condition]
) -> dict[str, str]:
    """Return, for each written key that this run does not read, the error that explains it.

    Keys in a file are skipped if the command line chose what does not read them.
    """
    unmet = [condition for condition in every if not condition.holds(config)]
    named = [key for key, source in found.items() if source == COMMAND_LINE]
    reasons = {}
    for key, source in found.items():
        for condition in unmet:
            if condition.is_about(key) and (
                source == COMMAND_LINE or not condition.chosen_by(named)
            ):
                place = "" if source == COMMAND_LINE else f"{source}: "
                reasons[key] = f"{place}{condition.explained(key, config)}"
    return reasons


def refuse_unread(
    found: Mapping[str, str],
    config: DictConfig,
    schema: type[Any],
    saved: Sequence[str] = (),
    reasons: Callable[..., dict[str, str]] = unread,
) -> None:
    """Raise a ``UserError`` for a written key that this run does not read.

    Args:
        found: the written keys, and where each was written.
        saved: groups whose values come from a saved model.
        reasons: called like ``unread``.
    """
    for key in found:
        if is_below(key, *schema.ignores):
            raise UserError(f"{key}: python -m {schema.command} does not read it; leave it out.")
        if is_below(key, *saved):
            raise UserError(f"{key}: comes from the saved model; leave out {key}, or run.")
    if found.get("sweep") == COMMAND_LINE:
        raise UserError("sweep: names a sweep, and this is one run; add -m, or leave sweep out.")
    for reason in reasons(found, config, conditions(schema)).values():
        raise UserError(f"{reason}.")


def _in_files(hydra: HydraConf | DictConfig) -> dict[str, str]:
    found: dict[str, str] = {}
    chosen = dict(hydra.runtime.choices) | {"": hydra.job.config_name}
    for source in hydra.runtime.config_sources:
        if source.schema != "file":
            continue
        for group, option in chosen.items():
            is_own = source.provider != "main" or group == STUDIES
            if not is_own or group == SIZES or group.startswith("hydra/") or not option:
                continue
            path = Path(source.path) / group / f"{Path(str(option)).with_suffix('')}.yaml"
            if path.is_file():
                found |= dict.fromkeys(_keys_of(path, group), path.name)
    return found


def _keys_of(path: Path, group: str) -> list[str]:
    package = _PACKAGE.search(path.read_text(encoding="utf-8"))
    prefix = package[1] if package else group.replace("/", ".")
    values: Any = OmegaConf.to_container(OmegaConf.load(path))
    kept = {key: value for key, value in values.items() if key not in ("defaults", "hydra")}
    return _set_keys(kept, "" if prefix == "_global_" else f"{prefix}.")


def _set_keys(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the dotted keys of nested values; nothing is lost if an empty one is not read."""
    found = flattened(values, prefix=prefix)
    return [key for key, value in found.items() if value is not None and value not in ([], {})]
