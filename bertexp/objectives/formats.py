"""``task.format``: what an example is, for tasks without pairs of their own."""

from __future__ import annotations

from typing import TypeVar

from bertexp.data.tokens.store import TokenStore
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.objectives import FORMATS
from bertexp.objectives.config import TaskConfig
from bertexp.objectives.examples import BlockExamples, Examples
from bertexp.objectives.packing import RowExamples
from bertexp.pairs.examples import PairExamples
from bertexp.validation import UserError

E = TypeVar("E", bound=Examples)

# What segments and negatives are made with.
PAIR_READS = (
    *("task.sentences", "task.segments", "task.short_prob", "task.negatives", "task.next_prob"),
    "task.dynamic",
)


@FORMATS.register("blocks")
def write_blocks(
    tokens: TokenStore, config: TaskConfig, tokenizer: Tokenizer, seed: int
) -> BlockExamples:
    """Consecutive tokens of one document, cut anywhere."""
    return _some(BlockExamples(tokens, config.max_length, config.pad_to, tokenizer))


@FORMATS.register("full_sentences", reads=("task.sentences", "task.attention"))
def write_full_sentences(
    tokens: TokenStore, config: TaskConfig, tokenizer: Tokenizer, seed: int
) -> RowExamples:
    """As many consecutive sentences as fit, of one document or several with a separator between.

    RoBERTa's FULL-SENTENCES (Liu et al. 2019, section 4.2). A sentence that is longer than a row
    is cut; there its end is lost.
    """
    return _rows(tokens, config, tokenizer, whole=True, crosses=True)


@FORMATS.register("doc_sentences", reads=("task.sentences",))
def write_doc_sentences(
    tokens: TokenStore, config: TaskConfig, tokenizer: Tokenizer, seed: int
) -> RowExamples:
    """As many consecutive sentences of one document as fit.

    RoBERTa's DOC-SENTENCES (Liu et al. 2019, section 4.2). There batches of short rows have more of
    them; here ``trainer.max_tokens`` gives runs of different formats the same number of tokens.
    """
    return _rows(tokens, config, tokenizer, whole=True, crosses=False)


@FORMATS.register("packed", reads=("task.attention",))
def write_packed(
    tokens: TokenStore, config: TaskConfig, tokenizer: Tokenizer, seed: int
) -> RowExamples:
    """Full rows, cut anywhere, of one document or several with a separator between.

    That is how GPT-2 and its successors read text (Brown et al. 2020, "Language models are few-shot
    learners", section 2.3), here with special tokens around each row.
    """
    return _rows(tokens, config, tokenizer, whole=False, crosses=True)


@FORMATS.register("segment_pairs", reads=PAIR_READS)
def write_segment_pairs(
    tokens: TokenStore, config: TaskConfig, tokenizer: Tokenizer, seed: int
) -> PairExamples:
    """The pairs of next sentence prediction, whose labels nothing predicts.

    RoBERTa's SEGMENT-PAIR without NSP (Liu et al. 2019, section 4.2): the ablation in which BERT
    loses the loss and keeps the input. Segments are those of ``task.segments`` and, where the
    second does not follow the first, of ``task.negatives``.
    """
    return PairExamples(tokens, config, tokenizer, seed, None)


def _rows(
    tokens: TokenStore, config: TaskConfig, tokenizer: Tokenizer, *, whole: bool, crosses: bool
) -> RowExamples:
    rows = RowExamples(
        tokens,
        config.max_length,
        config.pad_to,
        tokenizer,
        whole=whole,
        crosses=crosses,
        apart=crosses and config.attention == "document",
    )
    return _some(rows)


def _some(examples: E) -> E:
    if len(examples) == 0:
        raise UserError("The corpus has no tokens: choose another dataset or more documents.")
    return examples
