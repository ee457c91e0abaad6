"""Finding the tokens that a tokenizer pads, opens, closes and masks texts with."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from tokenizers import Tokenizer as Backend

from bertexp.data.tokens.tokenizer import Roles, Tokenizer
from bertexp.validation import UserError

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
        raise UserError(f"{named}: is to write {unknown} for unknown words, and has no such token.")
    named_ones = (unknown, token_of(settings, "unk"), "[UNK]", "<unk>")
    tokens["unk"] = next((each for each in named_ones if each in vocabulary), None)
    if (last := max(vocabulary.values())) >= _MOST_IDS:
        raise UserError(f"{named}: has a token with the id {last}; ids may be below {_MOST_IDS}.")
    return _with_separators(Tokenizer(backend, Roles(**tokens)), named)  # type: ignore[arg-type]  # not None


def _check_mask(tokens: dict[str, str | None], named: str) -> None:
    for role in ("cls", "sep", "pad"):
        if tokens[role] == tokens["mask"]:
            raise UserError(
                f"{named}: {tokens['mask']} is to be its mask_token and its {role}_token; a mask "
                "is a token of its own."
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
        f"{what}: it is of no masked language model; add a mask token with transformers' "
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
