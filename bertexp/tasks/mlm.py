"""Masked language modelling (Devlin et al. 2019, section 3.1)."""

from __future__ import annotations

import numpy as np
import torch

from bertexp.masking.config import MaskingConfig
from bertexp.masking.masker import Masker
from bertexp.tasks import TASKS
from bertexp.tasks.base import Batch, MaskedExamples, Task, attention_mask, pad, queries
from bertexp.tokens.store import TokenStore
from bertexp.validation import UserError

# [CLS] before and [SEP] behind every block.
SPECIAL_PER_BLOCK = 2


class BlockExamples(MaskedExamples):
    """Blocks of consecutive tokens of one document, masked anew every epoch.

    A document is cut into blocks of ``max_length - 2`` tokens; its last block is shorter.

    Args:
        tokens: the split.
        max_length: tokens of the longest example, ``[CLS]`` and ``[SEP]`` included.
        masker: what masks the blocks.
        pad_id, cls_id, sep_id: ids of the special tokens.
    """

    def __init__(
        self,
        tokens: TokenStore,
        max_length: int,
        masker: Masker,
        pad_id: int,
        cls_id: int,
        sep_id: int,
    ) -> None:
        size = max_length - SPECIAL_PER_BLOCK
        offsets = tokens.document_token_offsets
        self._document_starts = offsets[:-1]
        blocks = -(-np.diff(offsets) // size)
        # Block k of a document starts k * size tokens into it.
        first = np.repeat(np.cumsum(blocks) - blocks, blocks)
        self._starts = np.repeat(offsets[:-1], blocks) + (np.arange(blocks.sum()) - first) * size
        self._ends = np.minimum(self._starts + size, np.repeat(offsets[1:], blocks))
        self._tokens = tokens.tokens
        self.masker = masker
        self._pad_id, self._cls_id, self._sep_id = pad_id, cls_id, sep_id

    def __len__(self) -> int:
        return len(self._starts)

    def documents(self) -> np.ndarray:
        return np.searchsorted(self._document_starts, self._starts, side="right") - 1

    def lengths(self, epoch: int) -> np.ndarray:
        return self._ends - self._starts + SPECIAL_PER_BLOCK

    def unmasked(self, example_ids: np.ndarray, epoch: int = 0) -> tuple[np.ndarray, np.ndarray]:
        rows = [
            np.concatenate(([self._cls_id], self._tokens[start:end], [self._sep_id]))
            for start, end in zip(self._starts[example_ids], self._ends[example_ids], strict=True)
        ]
        return pad(rows, self._pad_id)

    def batch(self, epoch: int, example_ids: np.ndarray, mask_prob: float | None = None) -> Batch:
        ids_BL, lengths_B = self.unmasked(example_ids)
        masked = self.masker.mask(ids_BL, example_ids, epoch, mask_prob)
        positions_N = np.flatnonzero(masked.predicted_BL)
        queries_BP, slots_N = queries(masked.predicted_BL)
        return Batch(
            example_ids=example_ids,
            input_ids_BL=torch.from_numpy(masked.input_ids_BL),
            queries_BP=queries_BP,
            attention_mask_BL=attention_mask(lengths_B),
            positions_N=torch.from_numpy(positions_N),
            slots_N=slots_N,
            labels_N=torch.from_numpy(ids_BL.ravel()[positions_N]),
            tokens=int(lengths_B.sum()),
            maskable=masked.maskable,
            helped=masked.helped,
            mask_prob=masked.prob,
        )


@TASKS.register("mlm")
class MaskedLanguageModelling(Task):
    """Predict the masked tokens of a block of text."""

    model_class = "BertForMaskedLM"
    uses_sentences = False
    objectives = ("mlm",)

    def examples(self, tokens: TokenStore, masking: MaskingConfig, seed: int) -> BlockExamples:
        tokenizer = self.tokenizer
        examples = BlockExamples(
            tokens,
            self.config.max_length,
            self.masker(tokens, masking, seed),
            tokenizer.pad_id,
            tokenizer.cls_id,
            tokenizer.sep_id,
        )
        if len(examples) == 0:
            raise UserError("The corpus has no tokens: choose another dataset or more documents.")
        return examples
