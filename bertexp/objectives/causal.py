"""Examples with causal attention, in which every token is predicted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from bertexp import draws
from bertexp.masking.masker import Masked
from bertexp.objectives.batch import Batch, Target
from bertexp.objectives.examples import Examples, MarkedExamples, MaskedExamples, predict_tokens


class CausalExamples(MarkedExamples):
    """Examples as they were written; every token is predicted from those before it.

    ``weights_V`` are the weights of predictions by token, None for 1.
    """

    def __init__(
        self, text: Examples, is_special_V: np.ndarray, name: str, weights_V: Tensor | None = None
    ) -> None:
        super().__init__(text)
        self._is_special_V, self._name, self._weights_V = is_special_V, name, weights_V

    def batch(self, epoch: int, example_ids: np.ndarray) -> Batch:
        written = self.text.batch(epoch, example_ids)
        ids_BL = written.input_ids_BL.numpy()
        predicted_BL = ~self._is_special_V[ids_BL]
        marked = predict_tokens(written, self._name, predicted_BL, self._weights_V)
        causal_B = torch.ones(len(ids_BL), dtype=torch.bool)
        return replace(marked, causal_B=causal_B, predicted=int(predicted_BL.sum()))


class HybridExamples(MaskedExamples):
    """Masked examples, and a share of causal ones, which each example's number decides."""

    def __init__(self, masked: MaskedExamples, share: float) -> None:
        super().__init__(masked.text, masked.masker, masked.name, masked.weights_V)
        self._share = share

    def is_causal(self, epoch: int, example_ids: np.ndarray) -> np.ndarray:
        state = draws.states("causal", self.masker.seed, epoch, example_ids)
        return draws.uniform(state) < self._share

    def strata(self, epoch: int) -> np.ndarray:
        return 2 * super().strata(epoch) + self.is_causal(epoch, np.arange(len(self)))

    def batch(self, epoch: int, example_ids: np.ndarray) -> Batch:
        written = self.text.batch(epoch, example_ids)
        ids_BL = written.input_ids_BL.numpy()
        masked = self.masker.mask(ids_BL, example_ids, epoch)
        causal_B = self.is_causal(epoch, example_ids)
        causal_B1 = causal_B[:, None]
        maskable_BL = ~self.masker.tokenizer.is_special_V[ids_BL]
        predicted_BL = np.where(causal_B1, maskable_BL, masked.predicted_BL)
        marked = predict_tokens(written, self.name, predicted_BL, self.weights_V)
        hidden_BL = masked.predicted_BL & ~causal_B1
        target = _balanced(marked.targets[self.name], masked, predicted_BL, causal_B)
        return replace(
            marked,
            targets=marked.targets | {self.name: target},
            input_ids_BL=torch.from_numpy(np.where(causal_B1, ids_BL, masked.input_ids_BL)),
            causal_B=torch.from_numpy(causal_B),
            predicted=int(predicted_BL.sum()),
            maskable=int((maskable_BL & ~causal_B1).sum()),
            masked=int(hidden_BL.sum()),
            empty=int((maskable_BL.any(1) & ~hidden_BL.any(1) & ~causal_B).sum()),
            mask_prob=masked.prob,
        )


def _balanced(
    target: Target, masked: Masked, predicted_BL: np.ndarray, causal_B: np.ndarray
) -> Target:
    """Return the target with both kinds of examples weighted by their tokens.

    A causal example predicts each of its tokens and a masked one a share of them, whose predictions
    are therefore weighted by 1 / rate.
    """
    weights_B = np.where(causal_B, 1.0, 1 / masked.rates_B).astype(np.float32)
    weights_N = torch.from_numpy(weights_B.repeat(predicted_BL.sum(1)))
    return replace(target, weights_N=weights_N, over=masked.maskable)
