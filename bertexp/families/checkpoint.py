"""Checkpoints: weights read in float32 and written in the form that ``from_pretrained`` loads."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from bertexp.data.hub import must_be_local
from bertexp.data.tokens.roles import to_transformers
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.families import FAMILIES
from bertexp.families.architecture import check_weights, read_architecture, reading
from bertexp.families.base import LABEL, Family
from bertexp.families.heads import made_with
from bertexp.files import replacing
from bertexp.validation import UserError

log = logging.getLogger(__name__)

# Weights that objectives train beside the model.
BESIDE_FILE = "objectives.safetensors"
CARD_FILE = "README.md"

# What a model that is used as it was saved may lack: only heads for pairs and labels read it.
_POOLER = re.compile(r"(^|\.)pooler\.")


def load_model(
    path: str, heads: frozenset[str] | None = None, key: str = "model.pretrained"
) -> Any:
    """Return a checkpoint's model, its weights in float32 whatever they were saved in.

    Args:
        heads: those that are needed, drawn where the checkpoint lacks them; None for
            the class it was saved as, with all its heads.
        key: what the user calls ``path``, for error messages.

    Raises:
        UserError: it cannot be loaded or is of no family.
    """
    import transformers

    config = read_architecture(path, key)
    family = FAMILIES[config.model_type]
    if heads is not None:
        heads = family.known(heads)
        model_class = family.model_class(heads)
        options = made_with(model_class, heads)
        return _load(path, model_class, key, config, heads_may_lack=bool(heads), **options)
    name = (config.architectures or [family.classes()[frozenset()]])[0]
    saved_as = getattr(transformers, name, None)
    if getattr(saved_as, "config_class", None) is not type(config):
        raise UserError(f"{key}={path}: is a {name}, which transformers has no class for.")
    return _load(path, saved_as, key, config)


def load_classifier(path: str, labels: Sequence[str]) -> Any:
    """Return a checkpoint's encoder with a head for sequences, whose weights are drawn.

    The head of a model that was fine-tuned before is kept if it has as many labels.

    ``labels`` are the classes in order; none for a score.

    Raises:
        UserError: it cannot be loaded or is of no family.
    """
    names = dict(enumerate(labels or ["score"]))
    config = read_architecture(path, "run")
    family = FAMILIES[config.model_type]
    config.id2label = names
    config.label2id = {name: number for number, name in names.items()}
    config.problem_type = "single_label_classification" if labels else "regression"
    family.prepare_labels(config)
    model_class = family.model_class(frozenset({LABEL}), "run")
    return _load(path, model_class, "run", config, heads_may_lack=True, new_head="classifier.")


def add_rows(model: Any, tokens: int) -> None:
    """Give a model's embeddings a row for each of ``tokens`` tokens.

    New ones are drawn around the mean of the others, so that they neither stand out nor vanish
    (Hewitt 2021, "Initializing new word embeddings for pretrained language models").
    """
    with reading("model.resize"):
        model.resize_token_embeddings(tokens)
    Family.of(model).check()


def _load(
    path: str,
    model_class: Any,
    key: str,
    config: Any,
    heads_may_lack: bool = False,
    new_head: str | None = None,
    **options: Any,
) -> Any:
    """Load a model; weights of ``new_head`` may have other shapes than the saved ones."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # it would cut through the run's own
    named = f"{key}={path}"
    check_weights(path, model_class, key)
    with reading(named):
        model, report = model_class.from_pretrained(
            path,
            config=config,
            dtype=torch.float32,
            attn_implementation="sdpa" if model_class._supports_sdpa else "eager",
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=must_be_local(path),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
    _check_shapes(report["mismatched_keys"], new_head, named)
    family = Family.of(model)
    family.untie(report["missing_keys"])
    # A new head is expected to be new.
    level = logging.DEBUG if new_head else logging.INFO
    _check_missing(model, report["missing_keys"], heads_may_lack, named)
    for kind, names in (("New weights, not in", "missing"), ("Unused weights of", "unexpected")):
        if found := sorted(report[f"{names}_keys"]):
            log.log(level, "%s %s: %s", kind, path, ", ".join(found))
    family.check()
    return model


def _check_shapes(mismatched: set[Any], new_head: str | None, named: str) -> None:
    """Raise a ``UserError`` if weights have other shapes, unless they are those of a new head."""
    for name, found, expected in sorted(mismatched):
        if not (new_head and name.startswith(new_head)):
            raise UserError(
                f"{named}: its weights do not fit its config.json: {name} is {tuple(found)}, not "
                f"{tuple(expected)}."
            )


def _check_missing(model: Any, missing: set[str], heads_may_lack: bool, named: str) -> None:
    """Raise a ``UserError`` unless the missing weights are those of heads that may be new."""
    base = f"{model.base_model_prefix}."
    lost = [
        name
        for name in sorted(missing)
        if not (_POOLER.search(name) or (heads_may_lack and not name.startswith(base)))
    ]
    if lost:
        raise UserError(
            f"{named}: {len(lost)} of the weights of a {type(model).__name__} are not in it, "
            f"{lost[0]} among them."
        )


def export_model(
    model: Any,
    tokenizer: Tokenizer,
    max_length: int,
    folder: Path,
    weights: dict[str, torch.Tensor] | None = None,
    beside: dict[str, torch.Tensor] | None = None,
    card: str = "",
    others: Mapping[str, tuple[Any, dict[str, torch.Tensor]]] | None = None,
) -> None:
    """Write a model and its card to ``folder``, all or nothing, see ``write_model``.

    Args:
        others: further models and their weights, by the name of their folder in it.
    """
    with replacing(folder) as partial:
        write_model(model, tokenizer, max_length, partial, weights, beside)
        for name, (other, its) in (others or {}).items():
            write_model(other, tokenizer, max_length, partial / name, its)
        if card:
            (partial / CARD_FILE).write_text(card, encoding="utf-8")


def write_model(
    model: Any,
    tokenizer: Tokenizer,
    max_length: int,
    folder: Path,
    weights: dict[str, torch.Tensor] | None = None,
    beside: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write weights (safetensors), configuration and tokenizer into ``folder``.

    Args:
        weights: those of the model, where it has only a part of them itself.
        beside: what objectives have trained beside it, for ``BESIDE_FILE``.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # one of "model shards" would cut through the run's own
    model.save_pretrained(folder, state_dict=weights)
    segments = Family.of(model).segments(model.config) > 1
    to_transformers(tokenizer, max_length, segments).save_pretrained(folder)
    if beside:
        save_file(beside, folder / BESIDE_FILE)
