"""Predictions for a text or a pair, and how they are shown."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.text import Text

from bertexp.console import number, table
from bertexp.display import Shown


@dataclass(frozen=True)
class Mask:
    """A masked position, and the likeliest tokens there, best first, or the token put there."""

    position: int
    likeliest: list[tuple[str, float]]


@dataclass(frozen=True, repr=False)
class Prediction(Shown):
    """A model's predictions for one text or two; those that do not apply are None or empty.

    Attributes:
        masks: each mask token and the likeliest tokens there, with probabilities.
        tokens: of a single text without masks, each token t with log p(t | all others) in nats.
        pseudo_perplexity: of that text, see ``pseudo_likelihood``; None if all words are unknown.
        follows: the probability that the second text follows the first.
        written: the text with its masks filled over several steps; ``masks`` are in that order.
        replaced: each token with the probability that another stood there; None for
            models that do not predict that.
        mask: the mask token.
    """

    text: str
    text_b: str | None
    masks: list[Mask] = field(default_factory=list)
    tokens: list[tuple[str, float]] = field(default_factory=list)
    pseudo_perplexity: float | None = None
    follows: float | None = None
    written: str | None = None
    replaced: list[tuple[str, float]] | None = None
    mask: str = "[MASK]"

    def __rich__(self) -> RenderableType:
        parts: list[RenderableType] = []
        written = re.search(r"[\[<]mask[\]>]", f"{self.text} {self.text_b}", re.IGNORECASE)
        if written and not self.masks and self.replaced is None:
            hint = f"no {self.mask} in the text; {written[0]} is plain text here: write {self.mask}"
            parts += [Text(hint), ""]
        if self.written is not None:
            parts += [Text(self.written, "bold", no_wrap=True, overflow="ignore"), ""]
        for each in self.masks if self.written is None else []:
            parts += _table(f"{self.mask} at {each.position}", "probability", each.likeliest)
        if self.tokens:
            known = self.pseudo_perplexity
            perplexity = "none: no word is known" if known is None else number(known)
            parts += _table("token", "log-likelihood", self.tokens)[:-1]
            parts += [Text(f"pseudo-perplexity: {perplexity}", "bold"), ""]
        if self.replaced:
            parts += _table("token", "probability that it is replaced", self.replaced)
        if self.follows is not None:
            parts += [Text(f"follows with probability {number(self.follows, 4)}", "bold"), ""]
        return Group(*parts[:-1])


def _table(name: str, value: str, rows: list[tuple[str, float]]) -> list[RenderableType]:
    cells = [(token, number(found, 4)) for token, found in rows]
    return [table(name.ljust(12), value, rows=cells), ""]
