"""BERT's own pre-training: masked tokens and sentence pairs on one batch (Devlin et al. 2019)."""

from __future__ import annotations

from bertexp.masking.config import MaskingConfig
from bertexp.tasks import TASKS
from bertexp.tasks.base import READ_BY_MASKED, READ_BY_PAIRS, MaskedExamples, Task
from bertexp.tasks.nsp import PairExamples
from bertexp.tokens.store import TokenStore


@TASKS.register("mlm_nsp", reads=(*READ_BY_MASKED, *READ_BY_PAIRS))
class JointPreTraining(Task):
    """Predict the masked tokens of a pair of segments and whether the second follows.

    With ``task.negatives=swap`` that is ALBERT's pre-training.
    """

    model_class = "BertForPreTraining"
    uses_sentences = True
    objectives = ("mlm", "nsp")

    def examples(self, tokens: TokenStore, masking: MaskingConfig, seed: int) -> MaskedExamples:
        pairs = PairExamples(tokens, self.config, self.tokenizer, seed)
        return MaskedExamples(pairs, self.masker(tokens, masking, seed))
