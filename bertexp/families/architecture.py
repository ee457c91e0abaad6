"""Reading a checkpoint's ``config.json`` and checking that it suits the run."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from bertexp.data.hub import is_unreachable, must_be_local, refuse_run
from bertexp.families import FAMILIES
from bertexp.families.kind import USE_CHECKPOINT_TOKENIZER
from bertexp.validation import UserError, first_line

# Fields of a ``config.json`` that change the model into one that is not trained here, and the only
# value allowed for each. ``transformers`` silently ignores some of them.
_MUST_BE: dict[str, Any] = {
    "is_decoder": False,
    "is_encoder_decoder": False,
    "add_cross_attention": False,
    "position_embedding_type": "absolute",
    "pruned_heads": {},
    "per_layer_config": {},
    "quantization_config": {},
    "auto_map": {},
}
# Fields that every encoder trained here must have.
_NEEDED = ("vocab_size", "hidden_size", "num_hidden_layers", "max_position_embeddings")
# Fields that only affect how a model is stored, computed or returned, which is set here instead.
_NOT_READ = (
    *("dtype", "torch_dtype", "attn_implementation", "_attn_implementation"),
    *("chunk_size_feed_forward", "gradient_checkpointing", "use_cache"),
    *("return_dict", "output_attentions", "output_hidden_states"),
)
# The weights in a folder, and the names of their files if there are several.
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# With a tokenizer that is not the checkpoint's own, its embedding table may have up to this many
# unused rows: tables are padded to multiples of 8 to 1024 to make matrix products faster.
_MOST_FILLED = 1024


def read_architecture(path: str, key: str = "model.pretrained") -> Any:
    """Return a checkpoint's ``transformers`` configuration without reading its weights.

    Raises:
        UserError: there is no checkpoint, or its ``model_type`` is not supported.
    """
    from transformers import CONFIG_MAPPING, PreTrainedConfig

    named, folder = f"{key}={path}", Path(path)
    if folder.is_dir() and not (folder / "config.json").is_file():
        refuse_run(path, named)
        raise UserError(f"{named}: the folder has no config.json.")
    with reading(named):
        found, _ = PreTrainedConfig.get_config_dict(path, local_files_only=must_be_local(path))
        kind = found.get("model_type", "")
        if not kind:
            raise UserError(
                f"{named}: its config.json has no model_type; the families are "
                f"{', '.join(FAMILIES.names())}."
            )
        if not FAMILIES.has(kind):
            raise UserError(
                f"{named}: is a {kind} model; the families are {', '.join(FAMILIES.names())} and "
                "all others that transformers itself has a masked-language-model class for."
            )
        family = FAMILIES[kind]
        check_plain(found, family.setting_names(), named)
        settings = {name: value for name, value in found.items() if name not in _NOT_READ}
        config = CONFIG_MAPPING[kind].from_dict(settings)
        check_plain(config.to_dict(), family.setting_names(), named)
        for name in _NEEDED:
            if not isinstance(getattr(config, name, None), int):
                raise UserError(f"{named}: is a {kind} model, whose configuration has no {name}.")
        return config


def check_plain(found: Mapping[str, Any], read: Collection[str], named: str) -> None:
    """Raise a ``UserError`` unless a configuration is that of a plain encoder.

    ``transformers`` reads only the fields in ``read`` of the ``config.json``.
    """
    for name, allowed in _MUST_BE.items():
        value = found.get(name) or allowed
        if name == "auto_map" and _is_of_transformers(value):
            continue
        if value != allowed and not (name == "position_embedding_type" and name in read):
            raise UserError(
                f"{named}: its configuration has {name}={value}; bertexp trains plain encoders, "
                f"where it is {allowed or 'false or absent'}."
            )


def _is_of_transformers(auto_map: Mapping[str, Any]) -> bool:
    """Whether all custom code that a ``config.json`` refers to is part of ``transformers`` now."""
    import transformers

    for value in auto_map.values():
        module, _, name = str(value).rpartition("--")[2].rpartition(".")
        own = getattr(transformers, name, None)
        if own is None or own.__module__.rpartition(".")[2] != module:
            return False
    return True


def check_weights(path: str, model_class: Any, key: str = "model.pretrained") -> None:
    """Raise a ``UserError`` if a local folder lacks weights, or one of its files is damaged."""
    folder, named = Path(path), f"{key}={path}"
    if not folder.is_dir():
        return
    if any(folder.glob("*.bin")) and not any(folder.glob("*.safetensors")):
        write = f"from_pretrained('{folder}').save_pretrained('{folder}')"
        raise UserError(
            f"{named}: its weights are pickled, and bertexp reads safetensors only; convert with: "
            f'python -c "from transformers import {model_class.__name__} as M; M.{write}"'
        )
    names, index = [WEIGHTS], folder / INDEX
    if not (folder / WEIGHTS).is_file() and index.is_file():
        with reading(named):
            names = sorted({*json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    for name in names:
        if not (folder / name).is_file():
            lacks = f"has no {name}" if name == WEIGHTS else f"{name} is missing"
            raise UserError(f"{named}: {lacks}.")
        try:
            with safe_open(folder / name, "pt"):
                pass
        except SafetensorError as error:
            raise UserError(
                f"{named}: {name} cannot be read ({first_line(error)}); copy it again."
            ) from error


def check_fit(found: Any, tokens: int, named: str, other: str = "", resize: bool = False) -> None:
    """Check that each of a tokenizer's tokens has a row in a checkpoint's embedding table.

    Rows without a token are never predicted and never input.

    Args:
        tokens: the size of the vocabulary.
        named: the checkpoint, for error messages.
        other: the tokenizer, for error messages, if it is not the checkpoint's own.
        resize: whether missing rows will be added.

    Raises:
        UserError: rows are missing, or far too many for another tokenizer than the model's own.
    """
    rows = found.vocab_size
    theirs = other or "its tokenizer"
    if tokens > rows and not resize:
        take = f"{USE_CHECKPOINT_TOKENIZER}; " if other else ""
        raise UserError(
            f"{named}: has {rows} rows of embeddings, {theirs} has {tokens} tokens; {take}"
            "training with model.resize=true adds rows, for tokens added to its own tokenizer."
        )
    if other and rows - tokens >= _MOST_FILLED:
        raise UserError(
            f"{named}: has {rows} rows of embeddings, {theirs} only {tokens} tokens; "
            f"{USE_CHECKPOINT_TOKENIZER}"
        )


def check_pairs(found: Any, key: str) -> None:
    """Raise a ``UserError`` if a model has one segment type and ``key`` needs two.

    Any model can read two texts without segments, separated by closing tokens alone.
    """
    if (segments := FAMILIES[found.model_type].segments(found)) < 2:
        raise UserError(
            f"{key}: needs two segment types, and the model, a {found.model_type}, has only one "
            f"(type_vocab_size={segments}); families with two: bert, electra."
        )


def check_compiles(found: Any) -> None:
    """Raise a ``UserError`` if a model's family has no layers that can be compiled."""
    if not FAMILIES[found.model_type].compiles:
        raise UserError(
            f"hardware.compile=true: family={found.model_type} cannot be compiled; leave it out."
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Hide the warnings of ``transformers``."""
    from transformers.utils import logging as logs

    before = logs.get_verbosity()
    logs.set_verbosity_error()
    try:
        yield
    finally:
        logs.set_verbosity(before)


@contextmanager
def reading(named: str) -> Iterator[None]:
    """Turn an error of ``transformers`` about an unreadable checkpoint into a ``UserError``."""
    try:
        with quiet():
            yield
    except UserError:
        raise
    except Exception as error:  # the type depends on what is wrong with the files
        raise UserError(f"{named}: {_explained(error, *named.partition('=')[::2])}.") from error


def _explained(error: Exception, key: str, path: str) -> str:
    """Return why nothing could be loaded from ``path``, a folder or a name on the Hub."""
    if Path(path).exists():
        return f"transformers refuses it ({first_line(error)})"
    if path.startswith(("/", "./", "../", "~")):
        return "no such folder"
    # A name on the Hub may have a slash too.
    start = "no such folder; " if "/" in path and Path(path).parent.is_dir() else ""
    if is_unreachable(path):
        return (
            f"{start}the Hugging Face Hub does not answer and the model is not in its cache here; "
            f"type model=tiny tokenizer=wordpiece (from scratch), or {key}=FOLDER of a model, or "
            "run this once with a network"
        )
    return f"{start}no name on the Hub that gives a model in safetensors ({first_line(error)})"
