"""Settings: groups of runs by the keys that differ, and the names of the groups."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bertexp.arguments import composing
from bertexp.compare.runs import Record
from bertexp.config import changes_outcome
from bertexp.console import value_text
from bertexp.registry import Registry
from bertexp.validation import UserError, nearest

SEED = "seed"
# The key of a fine-tuned run's encoder.
ENCODER = "run"
# Keys of how closely a run is evaluated, which do not change its training.
EVALUATION_ONLY = (
    *("evaluation.every", "evaluation.evaluators", "evaluation.pseudo_perplexity"),
    *("evaluation.minimal_pairs", "evaluation.probes", "evaluation.probe_examples"),
)
ALL_RUNS = "all runs"


def group(
    runs: Sequence[Record], by: Sequence[str] = ()
) -> tuple[tuple[str, ...], tuple[str, ...], list[Record]]:
    """Divide runs into settings, by the keys ``by`` or else by all that differ except the seed.

    A setting has the ``name`` of its runs where it is that of no other setting.

    Returns:
        The keys that tell settings apart; the seed and the other keys that differ; and the runs
        with their settings. Runs of two settings are a pair if they have the same seed, and the
        same values of what differs within a setting. Random draws are those of the seed; where
        several encoders were fine-tuned, of the seed that each was pre-trained with: seeds of
        fine-tuning tell nothing about other encoders.

    Raises:
        UserError: a key of ``by`` is in no run's configuration.
    """
    configs = [run.config for run in runs]
    known = dict.fromkeys(key for config in configs for key in config)
    for key in by:
        if key not in known:
            raise UserError(f"--by {key}: no such key.{nearest(key, known)}")
    differing = differing_keys(configs)
    keys = tuple(dict.fromkeys(by)) or tuple(differing)
    others = tuple(key for key in (SEED, *differing) if key not in keys)
    labels = [described({k: config[k] for k in keys if k in config}) for config in configs]
    called = _names(labels, configs) if keys else {}
    pooled = varying(others, [*zip(labels, configs, strict=True)])
    placed = [
        replace(
            run,
            setting=called.get(label, label),
            drawn_with=value_text(run.encoder if ENCODER in others else run.config.get(SEED)),
            pair=tuple(value_text(run.config.get(key)) for key in pooled),
        )
        for run, label in zip(runs, labels, strict=True)
    ]
    return keys, others, placed


def varying(
    keys: Sequence[str], configs: Sequence[tuple[str, Mapping[str, Any]]]
) -> tuple[str, ...]:
    """Return the seed, and those of ``keys`` in which runs of one setting differ.

    ``configs`` are pairs of a setting and the configuration of one of its runs.
    """
    values: dict[tuple[str, str], set[str]] = defaultdict(set)
    for setting, config in configs:
        for key in keys:
            values[key, setting].add(value_text(config.get(key)))
    several = {key for (key, _), found in values.items() if len(found) > 1}
    return tuple(key for key in keys if key == SEED or key in several)


def _names(labels: Sequence[str], configs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return by label the ``name`` that all runs of a setting, and no others, have."""
    names: dict[str, set[Any]] = defaultdict(set)
    for label, config in zip(labels, configs, strict=True):
        names[label].add(config.get("name"))
    single = {label: str(*n) for label, n in names.items() if n != {None} and len(n) == 1}
    used = Counter([*single.values(), *names])
    return {label: name for label, name in single.items() if used[name] == 1}


def described(values: Mapping[str, Any]) -> str:
    brief = short_keys([*values])
    return ", ".join(f"{brief[k]}={value_text(v)}" for k, v in values.items()) or ALL_RUNS


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Return what to call each of several keys: as much of its end as tells it from the others.

    A single one is called by its whole name, and the ``name`` of a group (``family.name``) by the
    group.
    """
    whole = {key: key.removesuffix(".name") for key in keys}
    if len(keys) < 2:
        return whole
    ends = {
        key: [name.split(".", place)[-1] for place in range(name.count(".") + 1)]
        for key, name in whole.items()
    }
    used = Counter(end for known in ends.values() for end in known)
    return {
        key: next((e for e in reversed(known) if used[e] == 1), key) for key, known in ends.items()
    }


def differing_keys(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys besides the seed in which configurations differ and outcomes may.

    A key that only some have (they are of another version) differs only if these do. Where
    the ``name`` of a group tells them apart, what it stands for (the sizes of
    ``model.name=mini``) is left out.
    """
    found = [
        key
        for key in dict.fromkeys(key for config in configs for key in config)
        if changes_outcome(key)
        and key != SEED
        and not key.startswith(EVALUATION_ONLY)
        and len({value_text(config[key]) for config in configs if key in config}) > 1
    ]

    def follows_name(key: str) -> bool:
        name = f"{key.partition('.')[0]}.name"
        if key == name or name not in found:
            return False
        pairs = {(value_text(c.get(name)), value_text(c.get(key))) for c in configs}
        return len(pairs) == len({first for first, _ in pairs})

    return [key for key in found if not follows_name(key)]


def find_setting(wanted: str, settings: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the label of the one setting that ``wanted`` (``key=value, ...``) describes.

    ``wanted`` need not name all keys.

    Raises:
        UserError: none fits, or several.
    """
    from omegaconf import OmegaConf

    if wanted in settings:
        return wanted
    parts = re.split(r",\s*(?=[\w.]+=)", wanted)
    parsed = OmegaConf.from_dotlist(parts)
    known = dict.fromkeys(key for values in settings.values() for key in values)
    whole = {brief: key for key, brief in short_keys([*known]).items()}
    given = [part.partition("=")[0] for part in parts]
    values = {whole.get(key, key): value_text(OmegaConf.select(parsed, key)) for key in given}
    for key in values:
        if key not in known:
            differ = f"the settings differ in {', '.join(known)}" if known else "no key differs"
            raise UserError(f"--baseline {wanted}: {differ}.{nearest(key, known)}")
    fits = [
        label
        for label, its in settings.items()
        if all(value_text(its[key]) == value for key, value in values.items())
    ]
    if len(fits) == 1:
        return fits[0]
    some = "; ".join(fits or settings)
    raise UserError(f"--baseline {wanted}: fits {len(fits) or 'no'} settings; there are: {some}.")


def nearest_to_defaults(settings: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the label of the setting with the most values of ``conf/``; of equals the first.

    Keys of an objective or a strategy that a setting does not have count as if left alone.
    """
    from hydra import compose
    from omegaconf import OmegaConf

    with composing():
        shipped = compose("config")

    own = tuple(f"{each.group}.{name}." for each in Registry.all for name in each.own)

    def agreeing(label: str) -> int:
        return sum(
            value_text(OmegaConf.select(shipped, key)) == value_text(value)
            or (value is None and key.startswith(own))
            for key, value in settings[label].items()
        )

    return max(settings, key=agreeing)


def in_order(values: Mapping[str, Any]) -> tuple[tuple[bool, float, str], ...]:
    """Return what to sort a setting by: its values one by one, numbers as such, then texts."""
    numbers = (isinstance(value, int | float) for value in values.values())
    return tuple(
        (not is_number, float(value) if is_number else 0.0, value_text(value))
        for is_number, value in zip(numbers, values.values(), strict=True)
    )
