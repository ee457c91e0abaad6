"""A run's names: readable, and the same after it is resumed."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from bertexp.masking.config import MaskingConfig
from bertexp.tracking.config import TAG_LENGTH, TrackerConfig

_ID_LENGTH = 128
_PLAIN_STRATEGY = "token"
# Of a model trained from scratch: what the label leaves out.
_PLAIN_PARTS = ("bert", "wordpiece")
_IN_EVERY_LABEL = re.compile(
    r"task|seed|phases|masking|masking\.(prob|strategy|corrupt_prob|dynamic|(replace|schedule)\..*)"
)
# That of Devlin et al. 2019, in percent; labels omit it.
_PLAIN_REPLACEMENT = "80-10-10"


@dataclass(frozen=True)
class RunIdentity:
    """A run's names, and the group it belongs to.

    Attributes:
        id: unique and readable, such as ``mlm-p0.40-s1-3fa9c1d2``; the same after a resume.
        name: the user's name for the run, else a label such as ``mlm-p0.40-s1``.
    """

    id: str
    name: str
    group: str | None
    tags: tuple[str, ...]
    job_type: str


@dataclass(frozen=True)
class NameParts:
    """What a run's names are made of.

    Attributes:
        masking: ``None`` for a task without.
        parts: the family and the tokenizer of a model trained from scratch.
    """

    task: str
    model: str
    masking: MaskingConfig | None
    parts: tuple[str, ...] = ()
    job_type: str = "pretrain"


def identify(
    config: TrackerConfig,
    names: NameParts,
    *,
    seed: int,
    sweep: str | None,
    known_id: str | None = None,
    name: str | None = None,
    swept: Sequence[str] = (),
) -> RunIdentity:
    """Return a run's identity, derived from its settings.

    A run that W&B's sweep agent started has the id that the agent chose, and the agent's sweep as
    its group. W&B's environment variables supply what the configuration leaves open.

    Args:
        sweep: the name of the sweep, which is the group unless the user chose another.
        known_id: the id of a resumed run.
        swept: the overrides that differ from those of the sweep's other jobs.
    """
    special, differences = [p for p in names.parts if p not in _PLAIN_PARTS], _differences(swept)
    others = [part for part in special if part not in differences]
    label = "-".join([names.task, *others, *differences, *_masks(names.masking), f"s{seed}"])
    strategy = names.masking.strategy if names.masking else None
    named = wandb_setting(config, "NAME")
    if named and sweep:
        named = f"{named}-{label}"  # otherwise all jobs would have the same name
    given_id, agents_sweep = wandb_setting(config, "RUN_ID"), wandb_setting(config, "SWEEP_ID")
    return RunIdentity(
        id=(given_id if agents_sweep else None) or known_id or given_id or new_id(label),
        name=name or named or label,
        group=group_of(config, sweep) or agents_sweep,
        tags=_tags(config, names.task, *special, names.model, strategy),
        job_type=wandb_setting(config, "JOB_TYPE") or names.job_type,
    )


def _tags(config: TrackerConfig, *known: str | None) -> tuple[str, ...]:
    own = config.tags or (wandb_setting(config, "TAGS") or "").split(",")
    return tuple(dict.fromkeys(tag[:TAG_LENGTH] for tag in (*known, *own) if tag))


def group_of(config: TrackerConfig, sweep: str | None) -> str | None:
    """Return the group of a run, or of a sweep's jobs and their comparison."""
    return config.group or wandb_setting(config, "RUN_GROUP") or sweep


def wandb_setting(config: TrackerConfig, name: str) -> str | None:
    return os.environ.get(f"WANDB_{name}") or None if config.name == "wandb" else None


def new_id(label: str) -> str:
    """Return a unique id: the label in characters that W&B accepts, and random digits."""
    digits = secrets.token_hex(4)
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", label)
    return f"{safe[: _ID_LENGTH - len(digits) - 1]}-{digits}"


def _differences(swept: Sequence[str]) -> list[str]:
    """Abbreviate the overrides, except for those that every label contains."""
    found = []
    for override in swept:
        key, _, value = override.lstrip("+").partition("=")
        if value and not _IN_EVERY_LABEL.fullmatch(key):
            is_number = re.fullmatch(r"[-+.\de_]+|true|false|null", value)
            found.append(f"{key.rpartition('.')[2]}{value}" if is_number else value)
    return found


def _masks(masking: MaskingConfig | None) -> list[str]:
    """Abbreviate the masking, as far as it differs from BERT's."""
    if masking is None:
        return []
    schedule = masking.schedule
    strategies = [name for _, name in masking.strategies]
    parts = [] if strategies == [_PLAIN_STRATEGY] else ["-".join(strategies)]
    drawn = masking.drawn
    parts.append(f"p{_rate(drawn) if isinstance(drawn, float) else drawn}")
    if schedule.points:
        parts.append(schedule.name + "-".join(_rate(rate) for _, rate in schedule.points))
    if masking.corrupt_prob is not None:
        parts.append(f"c{_rate(masking.corrupt_prob)}")
    replacements = [
        "-".join(f"{100 * s:g}" for s in (each.mask, each.random, each.keep))
        for _, each in masking.replacements
    ]
    if replacements != [_PLAIN_REPLACEMENT]:
        parts.append("-then-".join(replacements))
    if not masking.dynamic:
        parts.append("static")
    return parts


def _rate(prob: float) -> str:
    return max(f"{prob:.2f}", f"{prob:g}", key=len)
