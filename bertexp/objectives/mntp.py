"""Masked next-token prediction, and its limit: causal language modelling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from bertexp import metrics
from bertexp.data.corpora.synthetic import HIDDEN, Language
from bertexp.data.tokens.store import TokenStore
from bertexp.families.inputs import Inputs
from bertexp.objectives import OBJECTIVES
from bertexp.objectives.base import EvalSet, Evaluated, Reference, freeze, shuffled
from bertexp.objectives.batch import Batch
from bertexp.objectives.causal import CausalExamples, HybridExamples
from bertexp.objectives.config import BankConfig, MntpKeys
from bertexp.objectives.examples import Examples
from bertexp.objectives.learner import Learner
from bertexp.objectives.mlm import READS, MaskedLanguageModelling, perplexity, word_numbers
from bertexp.objectives.vocabulary_loss import token_weights

# For model cards.
_FILLS = """\
text = tokenizer(f"A text with a {tokenizer.mask_token} in it.", return_tensors="pt")
place = (text.input_ids[0] == tokenizer.mask_token_id).nonzero()[0, 0]
# A token is predicted at the position before it: pipeline("fill-mask") reads the wrong one.
print(tokenizer.decode(model(**text).logits[0, place - 1].argmax()))"""
_WRITES = """\
from transformers import AutoModelForCausalLM

# With is_decoder, attention is causal, as it was in training.
writer = AutoModelForCausalLM.from_pretrained(folder, is_decoder=True)
ids = tokenizer("A text", return_tensors="pt").input_ids[:, :-1]  # without the closing token
print(tokenizer.decode(writer.generate(ids, max_new_tokens=20)[0]))"""
_ATTENDS = """\
# Attention was causal in training, and transformers has no class for that here: read it with
# python -m bertexp.predict, in its run's folder."""
# The condition of the set on which next tokens are predicted.
CAUSAL = "causal"
# Shown in the results only, so that an evaluation's line is no wider than a terminal.
metrics.register("eval/causal_accuracy", metrics.share("share of right answers"))
metrics.register(
    "eval/causal_loss",
    replace(metrics.LOSS, line=True, meaning="each token predicted from those before it"),
)


@OBJECTIVES.register("mntp", reads=READS)
class MaskedNextTokenPrediction(MaskedLanguageModelling):
    """Predict every token from the state one position before it, in two modes.

    GPT-BERT (Charpentier and Samuel 2024, "GPT or BERT: why not both?", section 2): masked examples
    are those of masked language modelling, with attention to both sides, but the prediction of a
    masked token is read at the token before it, which is where a causal language model predicts
    it. That makes the heads of both modes one, and a share of the examples is not masked and has
    causal attention: each of its tokens is predicted from those before it. The first token is
    predicted at the opening one. Special tokens are not predicted.

    The losses of both modes are balanced as in theirs: the mean over masked tokens and that over
    the tokens of causal examples count as the examples do (their code averages each process's loss,
    and each process has one mode). What differs: which examples are causal is drawn anew in each
    epoch, where their processes have parts of the corpus; the architecture is that of the family,
    where theirs has gates and weighted layers; masking is that of ``masking.*``, where theirs is
    spans of 1 to 3 tokens at 30% to 15% with 80/10/10, and prefers what was rarely masked.

    Evaluated in both modes: masked tokens on the same bank as ``mlm``, read one position earlier,
    and ``eval/causal_loss`` of the same examples without masks. A model for which all examples were
    causal is evaluated with causal attention alone, see ``CausalLanguageModelling``.
    """

    name = "mntp"
    second_prefix = "eval/causal_"
    encodes = True
    is_alone = True
    limits_attention = True

    @property
    def share(self) -> float:
        return OBJECTIVES.keys_of(self.config, MntpKeys).causal_share

    @property
    def continues(self) -> bool:
        return self.share > 0

    @property
    def is_causal(self) -> bool:
        return self.share == 1

    @property
    def follows(self) -> None:
        """Its losses are of causal examples too, so no rates follow them."""

    @property
    def facts(self) -> dict[str, str]:
        attention = {0.0: "to both sides", 1.0: "causal"}
        each = f"causal in {100 * self.share:g}% of the examples"
        read = "each token is predicted at the one before it"
        return {"attention": f"{attention.get(self.share, each)}; {read}"}

    def usage(self, model_type: str) -> tuple[str, str]:
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

        if self.share < 1:
            return "fill-mask", _FILLS
        writes = model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        return "text-generation", _WRITES if writes else _ATTENDS

    def mark(self, examples: Examples, tokens: TokenStore) -> Examples:
        if self.share == 1:
            weights_V = token_weights(tokens, self.tokenizer, self.config.loss.frequency_exponent)
            return CausalExamples(examples, self.tokenizer.is_special_V, self.name, weights_V)
        masked = self.masked(examples, tokens)
        return HybridExamples(masked, self.share) if self.share else masked

    def encode(self, learner: Learner, inputs: Inputs) -> Tensor:
        """Return the states one position earlier, which for a share of 1 see no later token."""
        ids_BL = inputs.input_ids_BL
        # The padding of queries is 0.
        earlier = replace(inputs, queries_BP=(inputs.queries_BP - 1).clamp(min=0))
        if self.share == 1:
            causal_B = torch.ones(len(ids_BL), dtype=torch.bool, device=ids_BL.device)
            earlier = replace(earlier, causal_B=causal_B)
        return learner.family.encode(earlier)

    def products(self, learner: Learner, batch: Batch) -> float:
        return learner.family.products(batch) + super().products(learner, batch)

    def eval_sets(self, tokens: Mapping[str, TokenStore], config: BankConfig) -> list[EvalSet]:
        """Those of masked language modelling, and the same examples without masks."""
        masked = super().eval_sets(tokens, config)
        written = self.bank_text(tokens["validation"])
        examples = CausalExamples(written, self.tokenizer.is_special_V, self.name)
        chosen = shuffled(len(examples))[: config.max_examples]
        return [*masked, freeze(examples, chosen, self.name, CAUSAL, 0.0)]

    def metrics(self, found: Sequence[Evaluated]) -> dict[str, float]:
        """Return those of masked language modelling, and ``eval/causal_loss`` and its like.

        ``eval/causal_loss`` is in nats a token; ``eval/causal_perplexity`` is its exponential.
        """
        (causal,) = (one for one in found if one.of.condition == CAUSAL)
        return super().metrics([one for one in found if one is not causal]) | {
            "eval/causal_loss": causal.loss,
            "eval/causal_accuracy": causal.accuracy,
            "eval/causal_perplexity": perplexity(causal.loss),
        }

    def reference(self, sets: Sequence[EvalSet], language: Language | None) -> Reference:
        (causal,) = (replace(one, weight=1.0) for one in sets if one.condition == CAUSAL)
        masked = super().reference([one for one in sets if one.condition != CAUSAL], language)
        own = super().reference([causal], None).yardsticks
        prefix = f"{self.prefix}causal_"
        yardsticks = {name.replace(self.prefix, prefix): value for name, value in own.items()}
        optimum = {}
        if language and (words_V := word_numbers(self.tokenizer, language)) is not None:
            # The opening token is no word of the text.
            words = [words_V[batch.input_ids_BL.numpy()[:, 1:]] for batch in causal.batches]
            nats = [-language.next_log_probs(each)[each != HIDDEN] for each in words]
            optimum = {f"{prefix}loss": float(np.concatenate(nats).mean())}
        return masked | Reference(yardsticks, optimum)


@OBJECTIVES.register("clm", reads=READS[1:])  # without masking
class CausalLanguageModelling(MaskedNextTokenPrediction):
    """Predict every token from those before it (Radford et al. 2018): ``mntp`` without masks.

    Its attention is causal wherever it is used, to masked tokens too: ``eval/loss`` is that of the
    masked tokens of the bank given the rest of the text before them, pseudo-perplexity is its
    perplexity, and bits per byte are those of reading from left to right. Only probes and
    fine-tuning read the encoder as any other one, with attention to both sides.
    """

    name = "clm"
    reads_masks = False

    @property
    def share(self) -> float:
        return 1.0
