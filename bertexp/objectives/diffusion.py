"""Masked diffusion: all mask rates, weighted to bound the likelihood of the text."""

from __future__ import annotations

from dataclasses import replace

import torch

from bertexp.data.tokens.store import TokenStore
from bertexp.masking.masker import Masked
from bertexp.objectives import OBJECTIVES
from bertexp.objectives.batch import Target
from bertexp.objectives.config import DiffusionKeys
from bertexp.objectives.examples import Examples, MaskedExamples
from bertexp.objectives.mlm import READS, MaskedLanguageModelling
from bertexp.validation import require


class DiffusedExamples(MaskedExamples):
    """Examples whose predictions are weighted by 1 / rate, so that all rates count the same."""

    def weighted(self, target: Target, masked: Masked) -> Target:
        counts_B = torch.from_numpy(masked.predicted_BL.sum(1))
        rates_B = torch.from_numpy(masked.rates_B).float()
        weights_N = rates_B.reciprocal().repeat_interleave(counts_B)
        return replace(target, weights_N=weights_N, over=masked.maskable)


@OBJECTIVES.register("diffusion", reads=READS)
class MaskedDiffusion(MaskedLanguageModelling):
    """Undo a process that masks each token with probability t, for all t (Sahoo et al. 2024).

    Each example draws its own t from 0 to 1 (``masking.prob``), each token becomes the mask token
    with that probability, and the cross-entropies of the masked tokens are weighted by 1 / t: in
    expectation over t that is an upper bound on the negative log likelihood of the text, here in
    nats a token (Sahoo et al. 2024, "Simple and effective masked diffusion language models",
    equation 10 with the log-linear schedule; Nie et al. 2025, "Large language diffusion models",
    equation 3). Unweighted, it is masked language modelling at all rates. As there, the model is
    not told t. What differs: with ``masking.draw=budget`` the number of masked tokens of an
    example is its share t of them to within one, where theirs are drawn independently.
    """

    name = "diffusion"
    writes = True

    def mark(self, examples: Examples, tokens: TokenStore) -> MaskedExamples:
        masking = self.masking
        for _, replaced in masking.replacements:
            allowed = "1 for task=diffusion"
            require(replaced.mask == 1, "masking.replace.mask", replaced.mask, allowed)
        rate = masking.corrupt_prob
        require(rate is None, "masking.corrupt_prob", rate, "null for task=diffusion")
        weighted = OBJECTIVES.keys_of(self.config, DiffusionKeys).weighting == "elbo"
        # A prediction that is given at a low rate would count 1 / that rate, without a bound.
        given, allowed = masking.at_least_one, "false with task.diffusion.weighting=elbo"
        require(not (weighted and given), "masking.at_least_one", given, allowed)
        return self.masked(examples, tokens, DiffusedExamples if weighted else MaskedExamples)
