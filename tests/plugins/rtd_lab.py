"""Replaced token detection with a small generator (Clark et al. 2020, "ELECTRA"), in one file.

The generator fills masked tokens, and the model tells everywhere whether a token is the one that
was written. It has labels, fields of a batch and a loss of a kind that no objective of bertexp has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from rich.text import Text
from torch import Tensor, nn
from torch.nn import functional

from bertexp import draws
from bertexp.data.tokens.store import TokenStore
from bertexp.families.base import MASKED, Family
from bertexp.families.inputs import Inputs
from bertexp.masking.masker import Masker
from bertexp.masking.strategies import Context
from bertexp.objectives import OBJECTIVES
from bertexp.objectives.base import BANK_SEED, EvalSet, Evaluated, Objective, freeze, shuffled
from bertexp.objectives.batch import Batch, Target
from bertexp.objectives.config import BankConfig
from bertexp.objectives.examples import Examples, MarkedExamples, MaskedExamples
from bertexp.objectives.learner import Learner
from bertexp.objectives.positions import use_positions
from bertexp.validation import require

NAME, GENERATOR = "rtd_lab", "rtd_lab_generator"
# Tokens of a sample.
SHOWN = 40


@dataclass
class Keys:
    """``task.rtd_lab.*``."""

    # Of the model's width and of its heads, what the generator has.
    generator: float = 0.5
    # What the model's loss counts beside the generator's.
    weight: float = 50.0

    def __post_init__(self) -> None:
        require(0 < self.generator <= 1, "task.rtd_lab.generator", self.generator, "above 0, to 1")
        require(self.weight > 0, "task.rtd_lab.weight", self.weight, "above 0")


@dataclass(frozen=True)
class Masks(Target):
    """What the generator predicts: ``labels_N`` stood at the positions that are masked.

    Attributes:
        masked_BL: what it reads.
        chances_N: between 0 and 1, by which each of its tokens is drawn.
    """

    masked_BL: Tensor
    chances_N: Tensor

    def idle(self) -> Self:
        return replace(super().idle(), chances_N=self.chances_N[:0])

    def padded(self, before: int, after: int) -> Self:
        masked_BL = functional.pad(self.masked_BL, (0, after - before))
        return replace(super().padded(before, after), masked_BL=masked_BL)


class ReplacedExamples(MaskedExamples):
    """Examples with masks for the generator, drawn by seed, epoch and example."""

    def batch(self, epoch: int, example_ids: np.ndarray) -> Batch:
        ids_BL = self.written(epoch, example_ids).input_ids_BL.numpy()
        masked = self.masker.mask(ids_BL, example_ids, epoch)
        key = draws.key("rtd-lab", self.masker.seed, epoch)
        at = (example_ids[:, None] << 20) + np.arange(ids_BL.shape[1])
        chances_BL = draws.uniform(draws.combine(key, at.ravel())).reshape(ids_BL.shape)
        batch, predicted_BL = self.text.batch(epoch, example_ids), masked.predicted_BL
        own = {
            NAME: target(ids_BL, ~self.masker.tokenizer.is_special_V[ids_BL]),
            GENERATOR: Masks(
                **vars(target(ids_BL, predicted_BL)),
                masked_BL=torch.from_numpy(masked.input_ids_BL),
                chances_N=torch.from_numpy(chances_BL[predicted_BL]),
            ),
        }
        return replace(
            batch,
            targets={**batch.targets, **own},
            maskable=masked.maskable,
            predicted=int(predicted_BL.sum()),
            masked=int(predicted_BL.sum()),
            empty=masked.empty,
            mask_prob=masked.prob,
        )


def target(ids_BL: np.ndarray, where_BL: np.ndarray) -> Target:
    """Return the tokens at some positions, which are read in an input of the objective's own."""
    places_N = torch.from_numpy(np.flatnonzero(where_BL))
    return Target(torch.from_numpy(ids_BL[where_BL]), places_N, None)


@OBJECTIVES.register(NAME, keys=Keys, reads=("masking", "evaluation.mask_probs"))
class ReplacedTokenDetection(Objective):
    """Tell at every position whether the token was replaced."""

    name = NAME
    prefix = "eval/rtd_lab_"
    head = None
    exported = ("head",)

    @property
    def keys(self) -> Keys:
        """``task.rtd_lab.*``."""
        return OBJECTIVES.keys_of(self.config, Keys)

    @property
    def losses_weights(self) -> dict[str, float]:
        return {NAME: self.keys.weight, GENERATOR: 1.0}

    def build(self, family: Family) -> nn.Module:
        small = deepcopy(family.config)
        heads = max(1, round(self.keys.generator * small.num_attention_heads))
        width = family.config.hidden_size // small.num_attention_heads
        small.num_attention_heads, small.hidden_size = heads, heads * width
        small.intermediate_size = max(1, round(self.keys.generator * small.intermediate_size))
        hidden = family.config.hidden_size
        head = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, 2))
        generator = family.build(small, frozenset({MASKED}))
        return nn.ModuleDict({"generator": generator, "head": head})

    def mark(self, examples: Examples, tokens: TokenStore) -> Examples:
        masker = Masker(Context(self.masking, self.tokenizer, tokens), self.seed)
        return ReplacedExamples(examples, masker, NAME)

    def logits(self, learner: Learner, hidden_MD: Tensor) -> Tensor:
        logits_M2: Tensor = learner.own[NAME]["head"](hidden_MD)  # type: ignore[index]
        return logits_M2

    def losses(
        self, learner: Learner, batch: Batch, encoded: Callable[[], Tensor]
    ) -> dict[str, Tensor]:
        whole, masks = batch.targets[NAME], batch.targets[GENERATOR]
        assert isinstance(masks, Masks)
        generator = self._generator(learner)
        hidden_ND = generator.encode(self._masked(batch))
        logits_NV = generator.masked_logits(hidden_ND).float()
        likely_NV = logits_NV.detach().softmax(-1).cumsum(-1)
        drawn_N = torch.searchsorted(likely_NV, masks.chances_N[:, None].to(likely_NV)).squeeze(1)
        replaced_BL = self._written(batch)
        written_N = replaced_BL.flatten()[whole.positions_N]
        replaced_BL.view(-1)[masks.positions_N] = drawn_N.clamp(max=logits_NV.shape[1] - 1)
        replaced_N = replaced_BL.flatten()[whole.positions_N] != written_N
        hidden_ND = learner.encode(batch.at(whole.positions_N, replaced_BL))
        logits_N2 = self.logits(learner, hidden_ND).float()
        return {
            NAME: functional.cross_entropy(logits_N2, replaced_N.long(), reduction="sum"),
            GENERATOR: functional.cross_entropy(logits_NV, masks.labels_N, reduction="sum"),
        }

    def products(self, learner: Learner, batch: Batch) -> float:
        whole, masks = batch.targets[NAME], batch.targets.get(GENERATOR)
        hidden = learner.family.config.hidden_size
        found = len(whole) * hidden * (hidden + 2.0)
        if masks is not None:
            generator = self._generator(learner)
            found += learner.family.products(batch.at(whole.positions_N, batch.input_ids_BL))
            found += generator.products(self._masked(batch))
            found += len(masks) * generator.head_products(generator.config.vocab_size)
        return found

    def _generator(self, learner: Learner) -> Family:
        return Family.of(learner.own[NAME]["generator"])  # type: ignore[index]

    def _masked(self, batch: Batch) -> Inputs:
        masks = batch.targets[GENERATOR]
        assert isinstance(masks, Masks)
        return batch.at(masks.positions_N, masks.masked_BL)

    def _written(self, batch: Batch) -> Tensor:
        """Return the tokens as they were written, whatever other objectives mask of them."""
        masks, whole = batch.targets[GENERATOR], batch.targets[NAME]
        assert isinstance(masks, Masks)
        ids_BL = masks.masked_BL.clone()
        ids_BL.view(-1)[whole.positions_N] = whole.labels_N
        return ids_BL

    def eval_sets(self, tokens: Mapping[str, TokenStore], config: BankConfig) -> list[EvalSet]:
        """Return validation text in which tokens are replaced by those of other places."""
        plain = replace(self.config, pad_to=None)
        validation = tokens["validation"]
        found = []
        for rate in config.mask_probs:
            masking = replace(self.masking, prob=rate, strategy="token")
            alone = ReplacedTokenDetection(plain, self.tokenizer, masking, BANK_SEED)
            examples = Frozen(alone.mark(alone.write(validation), validation), tokens["train"])
            chosen = shuffled(len(examples))[: config.max_examples]
            found.append(freeze(examples, chosen, NAME, rate, 1.0))
        return found

    def metrics(self, found: Sequence[Evaluated]) -> dict[str, float]:
        return {
            "eval/rtd_lab_loss": float(np.mean([one.loss for one in found])),
            "eval/rtd_lab_accuracy": float(np.mean([one.accuracy for one in found])),
            **{f"eval/rtd_lab_loss@{one.of.name}": one.loss for one in found},
        }

    def samples(self, logits_NC: Tensor, batch: Batch) -> Iterator[ReplacedSample]:
        replaced_N, guessed_N = batch.targets[NAME].labels_N > 0, logits_NC.argmax(-1) > 0
        ids_N = batch.input_ids_BL.flatten()[batch.targets[NAME].positions_N]
        names = [self.tokenizer.tokens[index] for index in ids_N.tolist()]
        parts = (names, replaced_N.tolist(), guessed_N.tolist())
        yield ReplacedSample(*(part[:SHOWN] for part in parts))


class Frozen(MarkedExamples):
    """Examples in which the masked tokens are replaced by tokens of the training text."""

    def __init__(self, text: Examples, train: TokenStore) -> None:
        super().__init__(text)
        self.train = train.tokens

    def batch(self, epoch: int, example_ids: np.ndarray) -> Batch:
        batch, written = self.text.batch(epoch, example_ids), self.written(epoch, example_ids)
        masks = batch.targets[GENERATOR]
        assert isinstance(masks, Masks)
        ids_BL = written.input_ids_BL.numpy()
        at_N = (masks.chances_N.numpy() * len(self.train)).astype(np.int64)
        replaced_BL, shape = ids_BL.copy(), ids_BL.shape
        replaced_BL.ravel()[masks.positions_N.numpy()] = self.train[at_N]
        where_BL = np.zeros(shape, dtype=bool)
        where_BL.ravel()[batch.targets[NAME].positions_N.numpy()] = True
        labels_N = torch.from_numpy((replaced_BL != ids_BL)[where_BL].astype(np.int64))
        frozen = use_positions(written, NAME, where_BL, labels_N)
        return replace(frozen, input_ids_BL=torch.from_numpy(replaced_BL))


@dataclass(frozen=True)
class ReplacedSample:
    """Tokens, which of them are replaced, and which the model holds for replaced."""

    tokens: list[str]
    replaced: list[bool]
    guessed: list[bool]

    table: ClassVar[str] = "samples/replaced"
    columns: ClassVar[list[str]] = ["token", "replaced", "found"]

    def rows(self) -> list[list[Any]]:
        return [list(row) for row in zip(self.tokens, self.replaced, self.guessed, strict=True)]

    def shown(self) -> Text:
        line = Text()
        for token, replaced, guessed in self.rows():
            style = {(True, True): "green", (True, False): "red"}.get((replaced, guessed), "")
            line.append(f"{token} ", style or ("yellow" if guessed else ""))
        return line
