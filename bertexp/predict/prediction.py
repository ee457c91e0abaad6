"""Predictions of a saved model: filled masks, a text's likelihood, or whether a pair follows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bertexp.data.tokens.inputs import ModelInput
from bertexp.evaluation.pseudo_perplexity import pseudo_likelihood
from bertexp.experiment.saved import Saved
from bertexp.families.base import MASKED, PAIR, REPLACED
from bertexp.families.inputs import Inputs
from bertexp.objectives.learner import Learner
from bertexp.objectives.samples import likeliest
from bertexp.predict.results import Mask, Prediction
from bertexp.predict.unmasking import Unmasking, unmask
from bertexp.training.setup import choose_device
from bertexp.validation import UserError

TOP = 5


class Predictor:
    """A saved model, for texts and pairs.

    Args:
        device: as in ``hardware.device``.

    Attributes:
        mask: the mask token, as it is written in a text.
        writes: whether it was trained to fill many masks.

    Raises:
        UserError: it cannot be loaded, has no head for masked tokens or pairs, or there is no such
            device.
    """

    def __init__(self, saved: Saved, device: str = "auto") -> None:
        self._device = choose_device(device)
        self._tokenizer = saved.load_tokenizer()
        self._objectives = saved.objectives(self._tokenizer)
        self._learner = Learner(saved.load_model(), self._objectives).to(self._device).eval()
        self._learner.load_own(Path(saved.source))
        self._family = self._learner.family
        self._limit = saved.max_length(self._family.config)
        self._name = saved.source
        self.mask = self._tokenizer.roles.mask
        self.writes = saved.writes
        heads = self._family.heads
        self._fills, self._pairs = MASKED in heads, PAIR in heads
        detectors = (each for each in self._learner.heads.values() if each.head == REPLACED)
        self._detector = next(detectors, None)
        self._detects = self._detector is not None or REPLACED in heads
        if not (self._fills or self._pairs or self._detects):
            kind = type(self._family.model).__name__
            reason = f"its {kind} predicts neither masked tokens nor pairs"
            if kind.endswith("ForSequenceClassification"):
                reason += "; pipeline('text-classification', RUN) of transformers labels texts"
            raise UserError(f"run={self._name}: {reason}.")

    @torch.no_grad()
    def __call__(
        self, text: str, text_b: str | None = None, unmasking: Unmasking | None = None
    ) -> Prediction:
        """Predict for a text, or for two.

        Args:
            unmasking: how to fill the masks one after another; None: each independently.

        Raises:
            UserError: a text is empty or too long, or the model has no head for it.
        """
        read = ModelInput.of(self._tokenizer, text, text_b)
        read.check_length(self._limit)
        places = [n for n, index in enumerate(read.ids) if index == self._tokenizer.mask_id]
        self._check_heads(text_b is not None, bool(places))
        if self._detects and not self._fills:
            return Prediction(text, text_b, replaced=self._replaced(read), mask=self.mask)
        found: dict[str, Any] = {}
        if places and unmasking:
            found["masks"], found["written"] = self._unmask(read, places, unmasking)
        elif places:
            found["masks"] = self._fill(read, places)
        elif text_b is None:
            found["tokens"], found["pseudo_perplexity"] = self._score(read)
        if text_b is not None and self._pairs:
            found["follows"] = self._follows(read)
        return Prediction(text, text_b, **found, mask=self.mask)

    def write(self, prompt: str, count: int, unmasking: Unmasking) -> Prediction:
        """Write ``count`` tokens after a prompt, which may be empty.

        A model that was trained to continue texts writes from left to right, any other one starts
        with the tokens it is most confident of.

        Raises:
            UserError: as for a text; or the model predicts no tokens, or writes them one by one
                and ``unmasking.steps`` is set.
        """
        if not self._fills:
            generator = f"; a run exports its generator to {self._name}/generator" * self._detects
            raise UserError(f"--write: the model predicts no tokens{generator}.")
        in_order = any(each.continues for each in self._objectives)
        if in_order and unmasking.steps is not None:
            raise UserError(
                f"--steps {unmasking.steps}: the model writes token by token; leave it out."
            )
        return self(prompt + self.mask * count, None, replace(unmasking, in_order=in_order))

    def _unmask(
        self, read: ModelInput, places: list[int], unmasking: Unmasking
    ) -> tuple[list[Mask], str]:
        def logits(ids: list[int], places: list[int]) -> Tensor:
            inputs = self._inputs(replace(read, ids=ids), places)
            if unmasking.in_order:
                causal_B = torch.ones(1, dtype=torch.bool, device=self._device)
                inputs = replace(inputs, causal_B=causal_B)
            return self._learner.masked_logits(inputs)

        tokenizer, ids = self._tokenizer, [*read.ids]
        found = unmask(logits, ids, places, ~tokenizer.is_special_V, unmasking)
        for each in found:
            ids[each.place] = each.token
        masks = [
            Mask(each.place, [(tokenizer.shown[each.token], each.probability)]) for each in found
        ]
        written: str = tokenizer.backend.decode(ids[1:-1], skip_special_tokens=False)
        return masks, written.strip()

    def _check_heads(self, is_pair: bool, has_mask: bool) -> None:
        if self._detects and not self._fills:
            if has_mask:
                raise UserError(
                    f"text: has a {self.mask}, and the model detects replaced tokens; masks are "
                    f"filled by its generator, which a run exports to {self._name}/generator."
                )
            if is_pair and not self._pairs:
                raise UserError("text_b: the model detects replaced tokens; give one text.")
            return
        if not is_pair and not self._fills:
            raise UserError("text: the model scores pairs only; give a second text.")
        if has_mask and not self._fills:
            raise UserError(f"text: has a {self.mask}, but the model scores pairs only.")
        if is_pair and not has_mask and not self._pairs:
            raise UserError(
                f"text_b: the model predicts masked tokens only; give one text, or a {self.mask}."
            )

    def _inputs(self, read: ModelInput, places: list[int]) -> Inputs:
        """Return a model's input whose states are used at ``places``."""
        inputs = Inputs(
            input_ids_BL=torch.tensor([read.ids]),
            token_type_ids_BL=torch.tensor([read.segments]),
            queries_BP=torch.tensor([places]),
            slots_U=torch.arange(len(places)),
        )
        return inputs.to(self._device)

    def _fill(self, read: ModelInput, places: list[int]) -> list[Mask]:
        logits_PV = self._learner.masked_logits(self._inputs(read, places))
        found = likeliest(logits_PV, self._tokenizer, TOP)
        return [Mask(*pair) for pair in zip(places, found, strict=True)]

    def _replaced(self, read: ModelInput) -> list[tuple[str, float]]:
        hidden_LD = self._family.encode(self._inputs(read, [*range(len(read.ids))]))
        if self._detector is not None:
            chances_L = self._detector.logits(self._learner, hidden_LD).float().softmax(-1)[:, 1]
        else:
            chances_L = self._family.replaced_logits(hidden_LD).float().sigmoid()
        special_V = self._tokenizer.is_special_V
        each = zip(read.ids, read.tokens, chances_L.tolist(), strict=True)
        return [(token, chance) for index, token, chance in each if not special_V[index]]

    def _follows(self, read: ModelInput) -> float:
        first_1D = self._family.encode(self._inputs(read, [0]))
        # The label of a pair that follows is 0.
        return self._family.pair_logits(first_1D).float().softmax(-1)[0, 0].item()

    def _score(self, read: ModelInput) -> tuple[list[tuple[str, float]], float | None]:
        ids = np.array(read.ids[1:-1])
        scored = pseudo_likelihood(self._learner, self._tokenizer, [ids], self._limit, self._device)
        likelihoods = scored.log_likelihoods[0].tolist()
        return list(zip(read.tokens[1:-1], likelihoods, strict=True)), scored.perplexity
