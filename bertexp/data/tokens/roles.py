"""The special tokens of tokenizers in the form of ``transformers``: found, and written."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, processors

from bertexp.data.tokens.tokenizer import Roles, Tokenizer, cutting
from bertexp.validation import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# How users write a mask, whatever the tokenizer's own mask token is.
MASKS = ("[MASK]", "<mask>", "<|mask|>")
# Usual names of the token with each role.
_USUAL = {
    "cls": ("[CLS]", "<s>", "<cls>", "<bos>", "<|begin_of_text|>"),
    "sep": ("[SEP]", "</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>"),
    "mask": MASKS,
    "pad": ("[PAD]", "<pad>", "<|padding|>", "<|pad|>"),
}
# The roles of the tokens around a text in the settings of generative models.
_OF_DECODERS = {"cls": "bos", "sep": "eos"}
# No real vocabulary is this large.
_MOST_IDS = 4_000_000


def with_roles(backend: Backend, settings: dict[str, Any], named: str) -> Tokenizer:
    """Return a tokenizer with the roles of its special tokens.

    They are taken from its settings, as saved by ``transformers``; failing that, from what it puts
    around a text itself, then from the usual names. Without a padding token it pads with the
    closing token, which works because padding is recognised by its position.

    Raises:
        UserError: no token has one of the roles, or the tokens it puts around texts are arranged
            neither as in BERT nor as in RoBERTa.
    """
    vocabulary = backend.get_vocab()
    around = dict(zip(("cls", "sep"), _around(backend), strict=True))
    tokens: dict[str, str | None] = {}
    for role, usual in _USUAL.items():
        # Same style first: <mask> before [MASK] if <s> opens a text.
        alike = sorted(usual, key=lambda name: name[0] != (tokens.get("cls") or name)[0])
        candidates = [
            token_of(settings, role),
            around.get(role),
            token_of(settings, _OF_DECODERS.get(role, role)),
            *alike,
            tokens["sep"] if role == "pad" else None,
        ]
        known = (each for each in candidates if each in vocabulary)
        tokens[role] = next(known, None)
        if tokens[role] is None or tokens[role] != (candidates[0] or tokens[role]):
            raise UserError(f"{named}: {_missing(role, settings, len(vocabulary))}")
    _check_mask(tokens, named)
    unknown = _unknown(backend)
    if unknown and unknown not in vocabulary:
        raise UserError(
            f"{named}: its token for unknown words, {unknown}, is not in its vocabulary."
        )
    named_ones = (unknown, token_of(settings, "unk"), "[UNK]", "<unk>")
    tokens["unk"] = next((each for each in named_ones if each in vocabulary), None)
    if (last := max(vocabulary.values())) >= _MOST_IDS:
        raise UserError(f"{named}: has a token with the id {last}; ids may be below {_MOST_IDS}.")
    return _with_separators(Tokenizer(backend, Roles(**tokens)), named)  # type: ignore[arg-type]  # not None


def _check_mask(tokens: dict[str, str | None], named: str) -> None:
    for role in ("cls", "sep", "pad"):
        if tokens[role] == tokens["mask"]:
            raise UserError(
                f"{named}: {tokens['mask']} is both its mask_token and its {role}_token; the mask "
                "must be another token."
            )


def token_of(settings: dict[str, Any], role: str) -> str | None:
    """Return the token that settings give for a role, None if they give none."""
    token = settings.get(f"{role}_token")
    return token.get("content") if isinstance(token, dict) else token


def _missing(role: str, settings: dict[str, Any], size: int) -> str:
    usual = ", ".join(_USUAL[role])
    what = f"its settings name no {role}_token, and its vocabulary of {size} tokens has no {usual}"
    if given := token_of(settings, role):
        what = f"its settings name {given} as {role}_token, which its {size} tokens lack"
    if role != "mask":
        return f"{what}."
    return (
        f"{what}: it belongs to no masked language model; add a mask token with transformers' "
        "add_special_tokens and save_pretrained (a checkpoint then needs model.resize=true), or "
        "choose another tokenizer."
    )


def _around(backend: Backend) -> tuple[str | None, str | None]:
    """Return the tokens before and after a text, if the tokenizer adds exactly one of each."""
    if backend.post_processor is None:
        return None, None
    inside = backend.encode("a", add_special_tokens=False).tokens
    whole = backend.encode("a").tokens
    if len(whole) != len(inside) + 2 or whole[1:-1] != inside:
        return None, None
    return whole[0], whole[-1]


def _unknown(backend: Backend) -> str | None:
    """Return the model's token for unknown words, None if it needs none (byte-level)."""
    model = json.loads(backend.to_str())["model"]
    if model.get("unk_id") is not None:
        return str(model["vocab"][model["unk_id"]][0])
    return model.get("unk_token")


def _with_separators(tokenizer: Tokenizer, named: str) -> Tokenizer:
    backend = tokenizer.backend
    word = backend.encode("a", add_special_tokens=False).ids
    found = backend.encode("a", "a").ids
    if found == [*word, *word]:
        return tokenizer
    for separators in (1, 2):
        one = replace(tokenizer, separators=separators)
        if found == one.sequence(word, word).tolist():
            return one
    cls, sep = tokenizer.roles.cls, tokenizer.roles.sep
    raise UserError(
        f"{named}: puts other tokens around a pair of texts than {cls} A {sep} B {sep} or "
        f"{cls} A {sep} {sep} B {sep}, which is what bertexp trains on."
    )


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
