"""The rates that adaptive masking has arrived at, for people to read."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import RenderableType

from bertexp.console import aligned
from bertexp.experiment.prepare import Data
from bertexp.objectives.examples import Examples, MaskedExamples
from bertexp.objectives.learner import Learner


def masked_layer(examples: Examples) -> MaskedExamples | None:
    return next((each for each in examples.layers() if isinstance(each, MaskedExamples)), None)


def adapted_rates(data: Data, learner: Learner) -> dict[str, dict[str, float]]:
    """Return the rates of the tokens that are masked most and least often, if they have adapted."""
    masked = masked_layer(data.examples)
    if masked is None or learner.rates is None:
        return {}
    masker = masked.masker.following(learner.rates.table()).at(1.0)
    most, least = masker.strategy.extremes()
    if not most:
        return {}
    names = data.tokenizer.shown
    return {
        name: {names[token]: round(rate, 3) for token, rate in found.items()}
        for name, found in (("most", most), ("least", least))
    }


def shown_rates(adapted: Mapping[str, Mapping[str, float]]) -> list[RenderableType]:
    """Return lines with the rates of frequent tokens, as multiples of that of all tokens."""
    rows = [
        [f"masked {name}", ", ".join(f"{token} {rate:.2f}" for token, rate in found.items())]
        for name, found in adapted.items()
    ]
    return [aligned(rows), ""] if rows else []
