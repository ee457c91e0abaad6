"""Replaced-token detection (Clark et al. 2020, "ELECTRA"; He et al. 2021, "DeBERTaV3")."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bertexp import metrics
from bertexp.data.corpora.synthetic import Language
from bertexp.data.tokens.store import TokenStore
from bertexp.families.base import REPLACED, Family
from bertexp.masking.masker import Masker
from bertexp.masking.strategies import Context
from bertexp.objectives import OBJECTIVES
from bertexp.objectives.base import EvalSet, Evaluated, Objective, Reference, freeze, shuffled
from bertexp.objectives.batch import Batch
from bertexp.objectives.config import BankConfig, RtdKeys
from bertexp.objectives.examples import Examples
from bertexp.objectives.generator import SHARING, Generator, draw
from bertexp.objectives.learner import Learner
from bertexp.objectives.mlm import MaskedLanguageModelling, bank_masker
from bertexp.objectives.replaced import GENERATOR, NAME, FrozenReplacements, Masks, ReplacedExamples
from bertexp.objectives.samples import ReplacedSample

metrics.register(
    "eval/rtd_auc",
    metrics.share("share of pairs of a replaced and a written token in the right order"),
)
# Shown in the results only, so that an evaluation's line is no wider than a terminal.
metrics.register("eval/generator_accuracy", metrics.share("share of right answers"))


class GeneratorBank(MaskedLanguageModelling):
    """The bank of masked language modelling, with metric names of the generator's own."""

    name = GENERATOR
    prefix = "eval/generator_"

    def metrics(self, found: Sequence[Evaluated]) -> dict[str, float]:
        values = super().metrics(found)
        rates = [f"loss@{one.of.name}" for one in found]
        return {f"{self.prefix}{n}": values[f"eval/{n}"] for n in ("loss", "accuracy", *rates)}

    def reference(self, sets: Sequence[EvalSet], language: Language | None) -> Reference:
        found = super().reference(sets, language)
        named = {name.replace("eval/", self.prefix): nats for name, nats in found.optimum.items()}
        return replace(found, optimum=named)


@OBJECTIVES.register(NAME, reads=("masking", "evaluation.mask_probs"))
class ReplacedTokenDetection(Objective):
    """Predict for every token whether a small generator has replaced it.

    The generator, a masked language model, fills the masked tokens with what it draws from its
    predictions, and the model predicts for every token whether it is the one that was written; a
    drawn token that happens to be that one counts as written (Clark et al. 2020, "ELECTRA:
    Pre-training text encoders as discriminators rather than generators", section 2). The loss is
    the generator's, a mean over masked tokens, plus 50 times the model's, a mean over all tokens.
    No gradient passes from the model to the generator except through shared embeddings.

    The generator is of the model's family and as deep, with a share of its width, heads and
    feed-forward width (their table 6: 1/4 for small and large, 1/3 for base; section 3.2: 1/4 to
    1/2 is best); DeBERTaV3's is as wide and half as deep (``task.rtd.depth``). ``tied`` embeddings
    are ELECTRA's (tokens, positions and segments, section 3.2). With ``gdes`` those of the model
    are the generator's, which its gradient does not reach, plus a table of its own that begins at
    zero (He et al. 2021, "DeBERTaV3", section 3.3, equation 4).

    What differs: special tokens are not classified, where the published code includes [CLS] and
    [SEP]. All masked tokens are [MASK] (``masking=all_mask``), as in the papers; ELECTRA's code
    leaves 15% of them unchanged. Where the family has no projection of embeddings to a smaller
    width (``electra`` has), one matrix without bias projects the shared tables themselves, before
    normalisation, for input and output alike, so that the generator is a plain model of its
    family when it is exported.
    """

    name = NAME
    prefix = "eval/rtd_"
    second_prefix = GeneratorBank.prefix
    head = REPLACED
    exported = ("generator", "head")

    @property
    def keys(self) -> RtdKeys:
        return OBJECTIVES.keys_of(self.config, RtdKeys)

    @property
    def losses_weights(self) -> dict[str, float]:
        return {NAME: self.keys.weight, GENERATOR: 1.0}

    @property
    def facts(self) -> dict[str, str]:
        return {"embeddings": SHARING[self.keys.embeddings]}

    def build(self, family: Family) -> nn.Module:
        parts = nn.ModuleDict({"generator": Generator(family, self.keys)})
        if REPLACED not in family.heads:
            parts["head"] = new_head(family)
        return parts

    def models(self, module: Any) -> dict[str, Any]:
        return {GENERATOR: module["generator"].model}

    def mark(self, examples: Examples, tokens: TokenStore) -> Examples:
        masker = Masker(Context(self.masking, self.tokenizer, tokens), self.seed)
        return ReplacedExamples(examples, masker, NAME)

    def logits(self, learner: Learner, hidden_MD: Tensor) -> Tensor:
        """Return the logits of "written", which are 0, and of "replaced"."""
        module = learner.own[NAME]
        if "head" in module:
            replaced_M = module["head"](hidden_MD).squeeze(-1)
        else:
            replaced_M = learner.family.replaced_logits(hidden_MD)
        return torch.stack([torch.zeros_like(replaced_M), replaced_M], dim=-1)

    def losses(
        self, learner: Learner, batch: Batch, encoded: Callable[[], Tensor]
    ) -> dict[str, Tensor]:
        whole, masks = batch.targets[NAME], batch.targets[GENERATOR]
        assert isinstance(masks, Masks)
        generator = self._generator(learner)
        hidden_MD = generator.family.encode(masks.inputs(batch))[: len(masks)]
        logits_NV = generator.family.masked_logits(hidden_MD).float()
        drawn_N = draw(logits_NV.detach() / self.keys.temperature, masks.chances_N)
        replaced_BL = masks.input_ids_BL.clone()
        replaced_BL.view(-1)[whole.positions_N] = whole.labels_N
        replaced_BL.view(-1)[masks.positions_N] = drawn_N
        is_replaced_N = replaced_BL.view(-1)[whole.positions_N] != whole.labels_N
        hidden_ND = learner.encode(batch.at(whole.positions_N, replaced_BL))
        logits_N2 = self.logits(learner, hidden_ND).float()
        return {
            NAME: functional.cross_entropy(logits_N2, is_replaced_N.long(), reduction="sum"),
            GENERATOR: functional.cross_entropy(logits_NV, masks.labels_N, reduction="sum"),
        }

    def target_logits(
        self, learner: Learner, batch: Batch, encoded: Callable[[], Tensor]
    ) -> dict[str, Tensor]:
        if NAME in batch.targets:
            return super().target_logits(learner, batch, encoded)
        family, target = self._generator(learner).family, batch.targets[GENERATOR]
        hidden_ND = family.encode(batch)[target.used][: len(target)]
        return {GENERATOR: family.masked_logits(hidden_ND)}

    def products(self, learner: Learner, batch: Batch) -> float:
        whole, masks = batch.targets[NAME], batch.targets[GENERATOR]
        assert isinstance(masks, Masks)
        hidden = learner.family.config.hidden_size
        found = learner.family.products(batch.at(whole.positions_N, masks.input_ids_BL))
        found += len(whole) * hidden * (hidden + 1.0)
        return found + self._generator(learner).products(masks.inputs(batch), len(masks))

    def _generator(self, learner: Learner) -> Generator:
        return learner.own[NAME]["generator"]

    def eval_sets(self, tokens: Mapping[str, TokenStore], config: BankConfig) -> list[EvalSet]:
        """Return a set for each rate for the model, then those of masked tokens for the generator.

        The model's does not depend on any generator: tokens are replaced by others of their
        frequency in the training text, so that runs can be compared.
        """
        written = self.bank_text(tokens["validation"])
        chosen = shuffled(len(written))[: config.max_examples]
        found = []
        for rate in config.mask_probs:
            masker = bank_masker(self.tokenizer, tokens["validation"], rate)
            examples = FrozenReplacements(written, masker, tokens["train"])
            found.append(freeze(examples, chosen, NAME, rate, 1.0))
        return [*found, *self._bank.eval_sets(tokens, config)]

    @property
    def _bank(self) -> GeneratorBank:
        return GeneratorBank(self.config, self.tokenizer, self.masking, self.seed)

    def metrics(self, found: Sequence[Evaluated]) -> dict[str, float]:
        """Return ``eval/rtd_*`` of the model and ``eval/generator_*`` of the generator.

        ``eval/rtd_loss`` (nats a token), ``eval/rtd_accuracy`` and ``eval/rtd_auc`` are means over
        the rates. The last is the chance that a replaced token has a higher score than a written
        one: 0.5 for a model that has learnt nothing, however few tokens are replaced.
        """
        own = [one for one in found if one.of.objective == NAME]
        each = {
            "loss": [one.loss for one in own],
            "accuracy": [one.accuracy for one in own],
            "auc": [area(one) for one in own],
        }
        values = {f"eval/rtd_{name}": float(np.mean(of)) for name, of in each.items()}
        values |= {f"eval/rtd_loss@{one.of.name}": one.loss for one in own}
        others = [one for one in found if one.of.objective == GENERATOR]
        return values | self._bank.metrics(others)

    def reference(self, sets: Sequence[EvalSet], language: Language | None) -> Reference:
        own, others = ([s for s in sets if s.objective == each] for each in (NAME, GENERATOR))
        found = super().reference(own, language) | Reference({"eval/rtd_auc": 0.5})
        return found | self._bank.reference(others, language)

    def samples(self, logits_NC: Tensor, batch: Batch) -> Iterator[ReplacedSample]:
        target, tokenizer = batch.targets[NAME], self.tokenizer
        rows_N = torch.from_numpy(target.rows(batch.input_ids_BL.shape[1]))
        ids_N = batch.input_ids_BL.flatten()[target.positions_N]
        chances_N = logits_NC.float().softmax(-1)[:, 1]
        for row in range(len(batch.input_ids_BL)):
            own = rows_N == row
            tokens = [tokenizer.shown[index] for index in ids_N[own].tolist()]
            yield ReplacedSample(tokens, target.labels_N[own].tolist(), chances_N[own].tolist())


def new_head(family: Family) -> nn.Sequential:
    """Return ELECTRA's head, for a family that has none."""
    width, deviation = family.config.hidden_size, family.config.initializer_range
    head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
    for name, weight in head.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(weight)
        else:
            nn.init.normal_(weight, std=deviation)
    return head


def area(found: Evaluated) -> float:
    """Return the area under the ROC curve; NaN if all tokens or none are replaced."""
    from sklearn.metrics import roc_auc_score

    labels_N = found.of.labels.numpy()
    if labels_N.min() == labels_N.max():
        return float("nan")
    # A loss is minus the logarithm of the label's probability.
    written_N = -np.expm1(-found.losses)
    return float(roc_auc_score(labels_N, np.where(labels_N, np.exp(-found.losses), written_N)))
