"""The keys of ``task.*``, and of ``evaluation.*`` what objectives are evaluated on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from bertexp.data.config import SENTENCE_METHODS
from bertexp.keys import key
from bertexp.objectives import FORMATS, OBJECTIVES
from bertexp.pairs import NEGATIVES, SEGMENTS, negative_shares
from bertexp.validation import is_number, require, require_choice, require_shares


@dataclass(kw_only=True)
class LossConfig:
    """What training minimises over the vocabulary, beside the cross-entropy; evaluation never does.

    With ``z_loss`` above 0, z_loss * log^2 Z is added for each prediction, with Z the sum of the
    exponentials of its logits: it keeps them from drifting (Chowdhery et al. 2022, "PaLM",
    section 5, with 1e-4). ``label_smoothing`` spreads this share of each label evenly over the
    vocabulary (Szegedy et al. 2016, section 7, with 0.1).

    With ``frequency_exponent`` a prediction counts in proportion to the frequency of its token in
    the training text, to the power of -exponent. Weights by frequency are Gu et al. 2020,
    "Token-level adaptive training for neural machine translation", who, as here, divide by the
    number of tokens and not by the sum of the weights; the power law is that of the sampling of
    Lample and Conneau 2019, section 3.3, with 0.5. Here the mean weight of a token of the training
    text is 1, so that learning rates keep their meaning.
    """

    z_loss: float = key(0.0, within="[0, inf)")
    label_smoothing: float = key(0.0, within="[0, 1)")
    frequency_exponent: float = key(0.0, within="[0, 2]")

    @property
    def changed(self) -> list[str]:
        """The keys that are not at their default, with their values."""
        return [f"{name}={value:g}" for name, value in vars(self).items() if value]


@dataclass(kw_only=True)
class TaskConfig:
    """The objectives of a task, and its examples."""

    name: str
    objectives: list[str] = key(choices=OBJECTIVES)
    weights: dict[str, float] | None
    max_length: int = key(within="[8, inf)")
    pad_to: int | None
    format: str = key(choices=FORMATS)
    attention: str = key(choices=("row", "document"))
    sentences: str = key(choices=SENTENCE_METHODS)
    segments: str = key(choices=SEGMENTS)
    short_prob: float = key(within="[0, 1]")
    negatives: Any
    next_prob: float = key(within="(0, 1)")
    dynamic: bool
    loss: LossConfig

    def __post_init__(self) -> None:
        require(bool(self.objectives), "task.objectives", self.objectives, "at least one objective")
        for name, weight in (self.weights or {}).items():
            require_choice("task.weights", name, self.objectives)
            require(0 < weight < math.inf, f"task.weights.{name}", weight, "above 0 and finite")
        allowed = f"at least task.max_length={self.max_length}, or null"
        fits = self.pad_to is None or self.pad_to >= self.max_length
        require(fits, "task.pad_to", self.pad_to, allowed)
        own = "blocks where an objective predicts from pairs, which have a format of their own"
        require(self.format == "blocks" or not self.uses_sentences, "task.format", self.format, own)
        for name in self.objectives:
            fits = len(self.objectives) == 1 or not OBJECTIVES[name].is_alone
            require(fits, "task.objectives", self.objectives, f"{name} alone")
        self._check_negatives()

    @property
    def heads(self) -> frozenset[str]:
        heads = (OBJECTIVES[name].head for name in self.objectives)
        return frozenset(head for head in heads if head)

    @property
    def uses_sentences(self) -> bool:
        """Whether an objective predicts from pairs of segments."""
        return any(OBJECTIVES[name].uses_sentences for name in self.objectives)

    @property
    def limits_attention(self) -> bool:
        by_objectives = any(OBJECTIVES[name].limits_attention for name in self.objectives)
        return by_objectives or self.attention == "document"

    @property
    def format_sentences(self) -> bool:
        """Whether the format needs text that is cut into sentences."""
        return "task.sentences" in FORMATS.reads(self.format)

    @property
    def reads_pairs(self) -> bool:
        """Whether examples are pairs of segments."""
        return self.uses_sentences or "task.segments" in FORMATS.reads(self.format)

    @property
    def masks(self) -> bool:
        return any("masking" in OBJECTIVES.reads(name) for name in self.objectives)

    def _check_negatives(self) -> None:
        shares = negative_shares(self.negatives)
        for kind, share in shares.items():
            NEGATIVES.check(kind)
            is_share = is_number(share) and 0 < share <= 1
            require(is_share, f"task.negatives.{kind}", share, "above 0 and at most 1")
        require_shares("task.negatives", shares)


@dataclass(kw_only=True)
class BankConfig:
    """The keys of ``evaluation.*`` for the sets that objectives are evaluated on."""

    mask_probs: list[float] = key(within="(0, 1)")
    negatives: list[str] = key(choices=NEGATIVES)
    count_negatives: str = key(choices=("trained", "all"))
    max_examples: int | None = key(within="[1, inf)")

    def __post_init__(self) -> None:
        distinct = {f"{prob:g}" for prob in self.mask_probs}
        allowed = "one or more different rates"
        fits = len(distinct) == len(self.mask_probs) > 0
        require(fits, "evaluation.mask_probs", self.mask_probs, allowed)


@OBJECTIVES.own_keys("diffusion")
@dataclass(kw_only=True)
class DiffusionKeys:
    """What a prediction counts in masked diffusion."""

    weighting: str = key(
        "elbo",
        choices=("elbo", "none"),
        about="elbo: 1 / its example's rate, whose mean bounds the likelihood; none: 1.",
    )


@OBJECTIVES.own_keys("mntp")
@dataclass(kw_only=True)
class MntpKeys:
    """How many examples are causal in masked next-token prediction."""

    causal_share: float = key(
        0.125,
        within="[0, 1]",
        about="Share of examples with causal attention and no masks; 1 is task=clm.",
    )


@OBJECTIVES.own_keys("rtd")
@dataclass(kw_only=True)
class RtdKeys:
    """The generator of replaced tokens, and what the two models share."""

    generator: float = key(
        0.25, within="(0, 1]", about="The generator's share of the model's width and heads."
    )
    depth: float = key(1.0, within="(0, 1]", about="The generator's share of the model's layers.")
    embeddings: str = key(
        "tied",
        choices=("tied", "gdes", "none"),
        about="tied: both models have the same; gdes: the model adds its own to the generator's, "
        "which its loss does not change; none: each has its own.",
    )
    temperature: float = key(
        1.0, within="(0, inf)", about="Divides the generator's logits where tokens are drawn."
    )
    weight: float = key(
        50.0, within="(0, inf)", about="Factor of the model's loss, beside the generator's of 1."
    )


@OBJECTIVES.own_keys("mae_lm")
@dataclass(kw_only=True)
class MaeKeys:
    """The decoder behind an encoder that reads no mask tokens."""

    decoder_layers: int | None = key(
        None,
        within="[1, 100]",
        about="Layers of the decoder, as wide as the encoder's; null: a third as many, rounded up.",
    )


@OBJECTIVES.own_keys("token_dropping")
@dataclass(kw_only=True)
class DroppingKeys:
    """How many tokens the middle layers leave out."""

    share: float = key(
        0.5, within="(0, 1)", about="Share of the positions that the middle layers leave out."
    )
