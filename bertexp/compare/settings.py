"""Which runs belong together: the keys that differ, and what runs alike in them are called."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from bertexp.compare.runs import Run
from bertexp.config import changes_outcome
from bertexp.console import value_text
from bertexp.validation import UserError, nearest

SEED = "seed"
# Of a fine-tuned run: the model it began with.
ENCODER = "run"
# They say how closely a run is looked at, not what it is.
ONLY_LOOKS = (
    *("evaluation.every", "evaluation.evaluators", "evaluation.pseudo_perplexity"),
    *("evaluation.probes", "evaluation.probe_examples"),
)
ALL_RUNS = "all runs"


@dataclass(frozen=True)
class Grouping:
    """How runs are parted into settings and paired across them.

    Attributes:
        keys: they tell the settings apart.
        others: the seed, and what else differs within a setting; runs alike in them are a pair.
        names: the user's own for settings, by what they are called without.
    """

    keys: tuple[str, ...]
    others: tuple[str, ...]
    names: Mapping[str, str] = field(default_factory=dict)

    def label(self, run: Run) -> str:
        """Return the label of the run's setting."""
        described = self.described(run)
        return self.names.get(described, described)

    def described(self, run: Run) -> str:
        """Return the values of the run's setting, each with its key."""
        brief = short_keys(self.keys)
        return (
            ", ".join(f"{brief[k]}={value_text(run.config.get(k))}" for k in self.keys) or ALL_RUNS
        )

    def values(self, run: Run) -> dict[str, Any]:
        """Return the values of the run's setting."""
        return {key: run.config.get(key) for key in self.keys}

    def unit(self, run: Run) -> str:
        """Return what a run shares its luck by: its seed.

        Where several encoders were fine-tuned it is that of the encoder's pre-training: seeds of
        fine-tuning tell nothing about other encoders.
        """
        return value_text(run.encoder if ENCODER in self.others else run.config.get(SEED))

    def pair(self, run: Run) -> tuple[str, ...]:
        """Return what a run of another setting must have in common to be paired with this one."""
        return tuple(value_text(run.config.get(key)) for key in self.others)


def group(runs: Sequence[Run], by: Sequence[str] = ()) -> Grouping:
    """Return the grouping by the keys ``by``, or else by all that differ except the seed.

    A setting has the ``name`` of its runs where it is that of no other setting.

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
    plain = Grouping(keys, tuple(key for key in (SEED, *differing) if key not in keys))
    named: dict[str, set[Any]] = defaultdict(set)
    for run in runs:
        named[plain.described(run)].add(run.config.get("name"))
    single = {
        label: str(*names) for label, names in named.items() if names != {None} and len(names) == 1
    }
    used = Counter([*single.values(), *named])
    return replace(plain, names={k: name for k, name in single.items() if used[name] == 1 and keys})


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Return what to call each of several keys: as much of its end as tells it from the others.

    A single one is called by its whole name.
    """
    if len(keys) < 2:
        return {key: key for key in keys}
    ends = {key: [key.split(".", place)[-1] for place in range(key.count(".") + 1)] for key in keys}
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
    known = dict.fromkeys(key for config in configs for key in config)
    found = [
        key
        for key in known
        if changes_outcome(key)
        and key != SEED
        and not key.startswith(ONLY_LOOKS)
        and len({value_text(config[key]) for config in configs if key in config}) > 1
    ]
    return [key for key in found if not _named(key, found, configs)]


def find_setting(wanted: str, settings: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the label of the one setting that ``wanted`` (``key=value, ...``) describes.

    Args:
        wanted: what the user asked for; it need not name all keys.
        settings: the values of each setting, by label.

    Raises:
        UserError: none fits, or several.
    """
    from omegaconf import OmegaConf

    if wanted in settings:
        return wanted
    parts = re.split(r",\s*(?=[\w.]+=)", wanted)
    keys = [part.partition("=")[0] for part in parts]
    parsed = OmegaConf.from_dotlist(parts)
    known = dict.fromkeys(key for values in settings.values() for key in values)
    whole = {brief: key for key, brief in short_keys([*known]).items()}
    asked = {whole.get(key, key): value_text(OmegaConf.select(parsed, key)) for key in keys}
    for key in asked:
        if key not in known:
            differ = f"the settings differ in {', '.join(known)}" if known else "no key differs"
            raise UserError(f"--baseline {wanted}: {differ}.{nearest(key, known)}")
    fits = [
        label
        for label, values in settings.items()
        if all(value_text(values[key]) == value for key, value in asked.items())
    ]
    if len(fits) == 1:
        return fits[0]
    some = "; ".join(fits or settings)
    raise UserError(f"--baseline {wanted}: fits {len(fits) or 'no'} settings; there are: {some}.")


def nearest_to_defaults(settings: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the label of the setting that has the most values of ``conf/``; of equals the first.

    Args:
        settings: the values of each setting, by label.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    from bertexp.config import conf_dir

    # At a sweep's end Hydra is there already, and a second one is refused.
    is_there = GlobalHydra.instance().is_initialized()
    with nullcontext() if is_there else initialize_config_dir(str(conf_dir()), version_base="1.3"):
        shipped = compose("config")

    def agreeing(label: str) -> int:
        return sum(
            value_text(OmegaConf.select(shipped, key)) == value_text(value)
            for key, value in settings[label].items()
        )

    return max(settings, key=agreeing)


def in_order(values: Mapping[str, Any]) -> tuple[tuple[bool, float, str], ...]:
    """Return what to sort a setting by: its values one by one, numbers as such, then texts."""
    return tuple(_rank(value) for value in values.values())


def _named(key: str, keys: Sequence[str], configs: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether ``key`` has one value for each ``name`` of its group."""
    name = f"{key.partition('.')[0]}.name"
    if key == name or name not in keys:
        return False
    pairs = {(value_text(config.get(name)), value_text(config.get(key))) for config in configs}
    return len(pairs) == len({first for first, _ in pairs})


def _rank(value: Any) -> tuple[bool, float, str]:
    is_number = isinstance(value, int | float)
    return (not is_number, float(value) if is_number else 0.0, value_text(value))
