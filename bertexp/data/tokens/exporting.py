"""Tokenizers in the form that ``AutoTokenizer`` loads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenizers import models, normalizers, processors

from bertexp.data.tokens.tokenizer import Tokenizer, cutting

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def to_transformers(
    tokenizer: Tokenizer, max_length: int, segments: bool = True
) -> PreTrainedTokenizerFast:
    """Return a tokenizer of ``transformers`` that cuts text in the same way.

    It is a ``BertTokenizer`` where that class does: it keeps nothing of a tokenizer but its
    vocabulary, case and accents. The special tokens are put around a text as in training, see
    ``Tokenizer.sequence``.

    Args:
        segments: whether the model has an embedding for the second text of a pair.
    """
    from transformers import BertTokenizer, PreTrainedTokenizerFast

    backend = tokenizer.backend
    normalizer = backend.normalizer
    settings: dict[str, Any] = {
        **{f"{role}_token": token for role, token in tokenizer.roles.tokens.items()},
        "model_max_length": max_length,
    }
    is_bert = isinstance(backend.model, models.WordPiece) and tokenizer.separators == 1
    if is_bert and segments and isinstance(normalizer, normalizers.BertNormalizer):
        bert: PreTrainedTokenizerFast = BertTokenizer(
            vocab=backend.get_vocab(with_added_tokens=False),
            do_lower_case=normalizer.lowercase,
            strip_accents=normalizer.strip_accents,
            tokenize_chinese_chars=normalizer.handle_chinese_chars,
            **settings,
        )
        if cutting(bert.backend_tokenizer) == cutting(backend):
            return bert
    whole = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_input_names=["input_ids", *["token_type_ids"] * segments, "attention_mask"],
        **settings,
    )
    whole.backend_tokenizer.post_processor = _template(tokenizer, second=int(segments))
    return whole


def _template(tokenizer: Tokenizer, second: int) -> processors.TemplateProcessing:
    """Put special tokens around texts; ``second`` is the segment of the second."""
    cls, sep = tokenizer.roles.cls, tokenizer.roles.sep
    between = [f"{sep}:0"] * tokenizer.separators
    return processors.TemplateProcessing(
        single=[f"{cls}:0", "$A:0", f"{sep}:0"],
        pair=[f"{cls}:0", "$A:0", *between, f"$B:{second}", f"{sep}:{second}"],
        special_tokens=[(cls, tokenizer.opening_id), (sep, tokenizer.closing_id)],
    )
