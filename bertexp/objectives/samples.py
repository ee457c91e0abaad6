"""A model's predictions for people to read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from rich.console import Group, RenderableType
from rich.text import Text
from torch import Tensor

from bertexp.data.tokens.tokenizer import Tokenizer

# Of one sample.
SHOWN_TOKENS = 24


class Sample(Protocol):
    """Some predictions on one example, for people to read."""

    # Of the table in trackers that all samples of a kind are rows of.
    table: ClassVar[str]
    columns: ClassVar[list[str]]

    def rows(self) -> list[list[Any]]:
        """Return the values of ``columns``, a row a prediction."""

    def shown(self) -> RenderableType:
        """Return the sample as the terminal shows it, right answers in green."""


def likeliest(logits_NV: Tensor, tokenizer: Tokenizer, count: int) -> list[list[tuple[str, float]]]:
    """Return the likeliest tokens of each row with their probabilities, best first."""
    # The table may have rows that belong to no token.
    chances_NV = logits_NV.float().softmax(-1)[:, : tokenizer.vocab_size]
    best = chances_NV.topk(count)
    rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [[(tokenizer.shown[i], p) for i, p in zip(*row, strict=True)] for row in rows]


@dataclass(frozen=True)
class Guess:
    """What stood at a masked position and what the model thinks, likeliest first."""

    truth: str
    likeliest: list[tuple[str, float]]

    @property
    def is_right(self) -> bool:
        return self.likeliest[0][0] == self.truth


@dataclass(frozen=True)
class MaskedSample:
    """A stretch of text as the model saw it, how it shows a mask, and a guess for each."""

    text: str
    mask: str
    guesses: list[Guess]

    table: ClassVar[str] = "samples/masked"
    columns: ClassVar[list[str]] = ["text", "truth", "prediction", "probability", "right"]

    def rows(self) -> list[list[Any]]:
        return [[self.text, g.truth, *g.likeliest[0], g.is_right] for g in self.guesses]

    def shown(self) -> RenderableType:
        text = Text(self.text)
        text.highlight_words([self.mask], "bold yellow")
        lines = [text]
        for guess in self.guesses:
            line = Text("  ")
            for token, probability in guess.likeliest:
                style = "green" if token == guess.truth else ""
                line.append(f"{token} ", style).append(f"{probability:.2f}  ", "dim")
            lines.append(line.append(f"(was: {guess.truth})", "dim"))
        return Group(*lines, "")


@dataclass(frozen=True)
class PairSample:
    """A sentence pair, whether the second follows, and the probability the model gives that."""

    first: str
    second: str
    follows: bool
    probability: float

    table: ClassVar[str] = "samples/pairs"
    columns: ClassVar[list[str]] = [
        *("first", "second", "follows", "probability that it follows", "right")
    ]

    @property
    def is_right(self) -> bool:
        return (self.probability > 0.5) == self.follows

    def rows(self) -> list[list[Any]]:
        return [[self.first, self.second, self.follows, self.probability, self.is_right]]

    def shown(self) -> RenderableType:
        verdict = Text(f"  follows with probability {self.probability:.2f} ")
        truth = "it does" if self.follows else "it does not"
        return Group(
            Text(f"A: {self.first}"),
            Text(f"B: {self.second}"),
            verdict.append(f"({truth})", "green" if self.is_right else "red"),
            "",
        )


@dataclass(frozen=True)
class ReplacedSample:
    """Tokens, whether each is replaced, and the probability the model gives that."""

    tokens: list[str]
    replaced: list[int]
    probabilities: list[float]

    table: ClassVar[str] = "samples/replaced"
    columns: ClassVar[list[str]] = ["token", "replaced", "probability that it is", "right"]

    def rows(self) -> list[list[Any]]:
        each = zip(self.tokens, self.replaced, self.probabilities, strict=True)
        return [[token, bool(is_so), p, (p > 0.5) == bool(is_so)] for token, is_so, p in each]

    def shown(self) -> RenderableType:
        """Return the first tokens, and the probability that they are replaced of some: of replaced
        ones, green if they are found and else red, and of written ones that the model suspects.
        """
        styles = {(True, True): "green", (True, False): "red", (False, False): "yellow"}
        line = Text()
        for token, is_replaced, chance, is_right in self.rows()[:SHOWN_TOKENS]:
            style = styles.get((is_replaced, is_right), "")
            marked = f"[{token} {chance:.2f}]" if is_replaced else f"({token} {chance:.2f})"
            line.append(marked if style else token, style).append(" ")
        note = "  [replaced] and (wrongly suspected) tokens, with the model's probability"
        return Group(line, Text(note, "dim"), "")
