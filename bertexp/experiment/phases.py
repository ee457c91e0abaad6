"""``phases``: shares of the budget, each with settings of its own.

A phase is a share and overrides, as on the command line: ``{share: 0.5, task: nsp, masking.prob:
0.3}``. Whatever the options of its groups set is added when the run is composed (``brings``), so
that the recorded configuration is complete.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from bertexp.arguments import composing
from bertexp.config import Config, keys, parse
from bertexp.console import value_text
from bertexp.keys import flattened, is_below
from bertexp.unread import COMMAND_LINE, Condition, conditions, unread
from bertexp.validation import (
    UserError,
    is_number,
    nearest_key,
    require,
    require_choice,
    require_shares,
)

SHARE, BRINGS = "share", "brings"
EXAMPLE = "[{share: 0.9, masking.prob: 0.5}, {share: 0.1}]"
# What a phase may set, and the groups among these.
OWN = (
    *("task", "masking", "scheduler", "optimizer.lr"),
    *("trainer.batch_size", "trainer.gradient_accumulation_steps"),
)
GROUPS = ("task", "masking", "scheduler")
# What a task may bring that only counts in the last phase.
_LAST = "evaluation"
# Why a phase may not set anything else.
_FIXED = {
    "dataset": "all phases read one corpus",
    "tokenizer": "all phases share one vocabulary",
    "model": "all phases train one model",
    "family": "all phases train one model",
    "evaluation": "a run is evaluated alike from beginning to end",
    "optimizer": "its states are those of the whole run; of its keys a phase may set optimizer.lr",
    "trainer": "the budget and the checkpoints are those of the whole run; of its keys a phase may "
    "set trainer.batch_size and trainer.gradient_accumulation_steps",
}
_ONE_RUN = "all phases are one run"
# Names and trackers do not change a phase.
_LABELS = ("name", "sweep", "plugins", "phases", "tracker", "hardware")


def expand(composed: DictConfig, overrides: Sequence[str], config_name: str) -> None:
    """Add to each phase what the options of its groups set, as they would on the command line.

    Args:
        composed: a run's configuration, which is changed; one that has them already stays.
        overrides: the overrides that it was composed with.

    Raises:
        UserError: a phase has no share, or sets a key that does not exist or that no phase may set;
            or the shares do not add up to 1.
    """
    entries = composed.get("phases") if "phases" in composed else None
    if entries is None or entries == []:
        return
    plain: Any = OmegaConf.to_container(entries) if OmegaConf.is_config(entries) else entries
    is_list = isinstance(entries, ListConfig) and all(isinstance(one, Mapping) for one in plain)
    require(is_list, "phases", value_text(plain), f"a list of phases, such as {EXAMPLE}")
    found = []
    for number, entry in enumerate(plain, start=1):
        where = f"phases: phase {number}: "
        _check(entry, where)
        options = {key: entry[key] for key in GROUPS if isinstance(entry.get(key), str)}
        if options and BRINGS not in entry:
            brought = _brought(composed, options, [*overrides], config_name, where)
            entry = {**entry, BRINGS: brought}
        found.append(entry)
    require_shares("phases", {f"phase {n}": each[SHARE] for n, each in enumerate(found, start=1)})
    OmegaConf.update(composed, "phases", found, merge=False)
    every = conditions(Config)
    for number, (entry, part) in enumerate(zip(found, parts(composed), strict=True), start=1):
        own = dict.fromkeys(_written(entry), COMMAND_LINE)
        for reason in unread(own, part, every).values():
            raise UserError(f"phases: phase {number}: {reason}.")


def parts(composed: DictConfig) -> list[DictConfig]:
    """Return the configuration of each phase; of a run without phases, its own.

    All are evaluated as the last one is.
    """
    found = []
    for entry in composed.get("phases") or []:
        part = composed.copy()
        OmegaConf.set_struct(part, False)
        part.phases = []
        for key, value in _settings(entry).items():
            OmegaConf.update(part, key, value, merge=False, force_add=True)
        found.append(part)
    for part in found[:-1]:
        part.evaluation = found[-1].evaluation
    return found or [composed]


def phase_configs(config: Config) -> list[Config]:
    """Return the checked configuration of each phase; of a run without phases, its own."""
    if not config.phases:
        return [config]
    found = []
    for number, part in enumerate(parts(OmegaConf.create(asdict(config))), start=1):
        try:
            found.append(parse(part, Config))
        except UserError as error:
            raise UserError(f"phases: phase {number}: {error}") from error
    return found


def sets(entry: Mapping[str, Any], prefix: str) -> bool:
    """Return whether a phase sets a key or a group, or a key below it."""
    return any(is_below(key, prefix) for key in (*_written(entry), *_settings(entry)))


def shares(config: Config) -> list[tuple[float, float]]:
    """Return the shares of the budget at the beginning and the end of each phase."""
    inner = [*itertools.accumulate(entry[SHARE] for entry in config.phases[:-1])]
    return list(zip([0.0, *inner], [*inner, 1.0], strict=True))


def unread_in_all(
    found: Mapping[str, str], composed: DictConfig, every: Iterable[Condition]
) -> dict[str, str]:
    """Return, for each written key that no phase reads, the error that explains it.

    A key that every phase sets itself is not read either.
    """
    every, each = list(every), parts(composed)
    reasons = [unread(found, part, every) for part in each]
    common = {key: why for key, why in reasons[0].items() if all(key in one for one in reasons)}
    entries = composed.get("phases") or []
    for key in found:
        if entries and all(key in _written(entry) for entry in entries):
            common[key] = f"{key}: is set by every phase; leave it out"
    return common


def without_brought(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != BRINGS}


def described(entries: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> str:
    """Return phases in a few words, such as ``90% prob 0.5, 10% prob 0.15``.

    ``config`` has the values of the keys that some phases set, and others leave as in the run.
    """
    if not entries:
        return ""
    whole = OmegaConf.create(dict(config))
    written = dict.fromkeys(key for entry in entries for key in _written(entry))
    phases = []
    for entry in entries:
        own, words = _written(entry), [f"{100 * entry[SHARE]:g}%"]
        for key in written:
            if key in GROUPS:
                words.append(str(own.get(key, OmegaConf.select(whole, f"{key}.name") or "")))
            else:
                value = own.get(key, OmegaConf.select(whole, key))
                words.append(f"{key.rpartition('.')[2]} {value_text(value)}")
        phases.append(" ".join(filter(None, words)))
    return ", ".join(phases)


def _check(entry: Mapping[str, Any], where: str) -> None:
    """Raise a ``UserError`` for a key that does not exist or that a phase may not set."""
    known = keys()
    own = [key for key in known if is_below(key, *OWN)]
    for key in _written(entry):
        if key in own or key in GROUPS:
            continue
        group = key.partition(".")[0]
        if key in known or key in _FIXED:
            raise UserError(
                f"{where}{key}: cannot be set by a phase: {_FIXED.get(group, _ONE_RUN)}."
            )
        hint = nearest_key(key, [SHARE, *GROUPS, *own])
        raise UserError(f"{where}{key}: no such key.{hint}")
    share = entry.get(SHARE)
    if share is None:
        raise UserError(f"{where}has no share of the budget; a phase is {{share: 0.5, ...}}.")
    require(is_number(share) and 0 < share <= 1, f"{where}share", share, "above 0 and at most 1")


def _brought(
    composed: DictConfig,
    options: Mapping[str, str],
    overrides: list[str],
    config_name: str,
    where: str,
) -> dict[str, Any]:
    """Return the values, by key, that options of groups change in a run's configuration."""
    from hydra import compose
    from hydra.core.global_hydra import GlobalHydra

    with composing():
        loader = GlobalHydra.instance().config_loader()
        for group, option in options.items():
            require_choice(f"{where}{group}", option, loader.get_group_options(group))
        more = [f"{group}={option}" for group, option in options.items()]
        other = compose(config_name, [*overrides, *more])
    found = {}
    for key in (key for key in keys() if not is_below(key, *_LABELS)):
        value = OmegaConf.select(other, key)
        if value != OmegaConf.select(composed, key):
            if not is_below(key, *OWN, _LAST):
                named = " ".join(more)
                raise UserError(f"{where}{named} sets {key}: {_FIXED[key.partition('.')[0]]}.")
            is_nested = OmegaConf.is_config(value)
            found[key] = OmegaConf.to_container(value, resolve=True) if is_nested else value
    return found


def _written(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the user wrote for a phase, by group or dotted key."""
    values = {str(key): value for key, value in entry.items() if key not in (SHARE, BRINGS)}
    return flattened(values, {*keys()})


def _settings(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that a phase changes, by dotted key."""
    written = {key: value for key, value in _written(entry).items() if key not in GROUPS}
    return {**entry.get(BRINGS, {}), **written}
