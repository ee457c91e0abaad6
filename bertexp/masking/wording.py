"""A masking in words, for a run's plan."""

from __future__ import annotations

from collections.abc import Sequence

from bertexp.masking.config import MaskingConfig


def in_words(config: MaskingConfig) -> str:
    """Return strategy, rate and replacement, with the changes over the budget."""
    replacements = [
        (at, "/".join(f"{100 * share:g}" for share in (each.mask, each.random, each.keep)))
        for at, each in config.replacements
    ]
    return f"{_changing(config.strategies)}, {_rate(config)}, replaced {_changing(replacements)}"


def _changing(values: Sequence[tuple[float, str]]) -> str:
    return ", ".join(f"from {at:.3g} of the budget on {v}" if at else v for at, v in values)


def _rate(config: MaskingConfig) -> str:
    schedule = config.schedule
    text = f"{config.drawn:.3g}" if isinstance(config.drawn, float) else f"rates {config.drawn}"
    if schedule.end is not None:
        text += f" to {schedule.end:.3g} ({schedule.name})"
    elif schedule.points:
        points = ", ".join(f"{rate:.3g} at {at:.3g}" for at, rate in schedule.points)
        text += f" to {points} of the budget ({schedule.name})"
    if config.corrupt_prob is not None:
        text += f", corrupted {config.corrupt_prob:.3g}"
    return text
