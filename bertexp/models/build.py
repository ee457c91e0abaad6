"""BERT models of ``transformers``: from scratch or from a checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from bertexp.hub import must_be_local
from bertexp.models.config import ModelConfig
from bertexp.models.initialization import look_at_neighbours
from bertexp.models.memory import LOADED, TRAINED, check_memory
from bertexp.tokens.tokenizer import WordPieceTokenizer
from bertexp.validation import UserError

if TYPE_CHECKING:
    from transformers import BertConfig, BertPreTrainedModel

log = logging.getLogger(__name__)


def build_model(
    config: ModelConfig,
    model_class: str,
    tokenizer: WordPieceTokenizer,
    max_length: int,
    seed: int,
) -> BertPreTrainedModel:
    """Return the model to train, in training mode, on the CPU.

    Args:
        config: size or checkpoint.
        model_class: name of a BERT class of ``transformers`` with the heads that are needed.
        tokenizer: what its vocabulary must match.
        max_length: the longest input, which its positions must hold.
        seed: for the weights that are drawn; the global generator is left seeded with it.

    Raises:
        UserError: a checkpoint that cannot be loaded, is no BERT, or does not fit the
            tokenizer or the length, or sizes that no memory can hold.
    """
    torch.manual_seed(seed)
    if config.pretrained:
        model = load_model(config.pretrained, model_class)
    else:
        check_memory(config, tokenizer.vocab_size, LOADED)
        model = _class(model_class)(
            bert_config(config, tokenizer.vocab_size, pad_id=tokenizer.pad_id)
        )
        if config.initialization == "local":
            look_at_neighbours(model)
    _check_length(model.config, max_length)
    _check_fit(model.config, config, tokenizer)
    return model.train()


def check_model(config: ModelConfig, max_length: int, device: torch.device) -> None:
    """Look whether a model can be trained, before it is there.

    Raises:
        UserError: a checkpoint that is not there, is no BERT or has too few positions, or a
            model from scratch that no memory can hold.
    """
    if config.pretrained:
        _check_length(read_architecture(config.pretrained), max_length)
    else:
        # On a GPU there is room for all but the weights, which are made here.
        check_memory(config, 0, TRAINED if device.type == "cpu" else LOADED)


def _class(name: str) -> type[BertPreTrainedModel]:
    from transformers.models.bert import modeling_bert

    return getattr(modeling_bert, name)


def build_skeleton(config: BertConfig, model_class: str) -> BertPreTrainedModel:
    """Return a model without weights: its modules and their shapes, in no time and no memory."""
    with torch.device("meta"):
        return _class(model_class)(config)


def bert_config(config: ModelConfig, vocab_size: int, pad_id: int = 0) -> BertConfig:
    """Return what ``model.*`` means for a vocabulary, for a model from scratch."""
    from transformers import BertConfig

    return BertConfig(
        vocab_size=vocab_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        max_position_embeddings=config.max_position_embeddings,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
        initializer_range=config.initializer_range,
        pad_token_id=pad_id,
    )


def load_model(
    path: str, model_class: str | None = None, key: str = "model.pretrained"
) -> BertPreTrainedModel:
    """Return a checkpoint's model.

    Args:
        path: a local folder or a Hub name.
        model_class: name of a BERT class of ``transformers``; None for the one it was saved as.
        key: what the user calls ``path``, for error messages.

    Raises:
        UserError: it cannot be loaded or is no BERT.
    """
    saved_as = read_architecture(path, key).architectures or ["BertModel"]
    return _load(path, model_class or saved_as[0], key)


def load_classifier(path: str, labels: Sequence[str]) -> BertPreTrainedModel:
    """Return a checkpoint's encoder with a head for sequences, whose weights are drawn.

    The head of a model that was fine-tuned before is kept if it has as many labels.

    Args:
        path: a local folder or a Hub name.
        labels: the classes in order; none for a score.

    Raises:
        UserError: it cannot be loaded or is no BERT.
    """
    names = dict(enumerate(labels or ["score"]))
    return _load(
        path,
        "BertForSequenceClassification",
        "run",
        new_head="classifier.",
        num_labels=len(names),
        id2label=names,
        label2id={name: number for number, name in names.items()},
        problem_type="single_label_classification" if labels else "regression",
    )


def _load(
    path: str, model_class: str, key: str, new_head: str | None = None, **settings: Any
) -> BertPreTrainedModel:
    """Load a model; weights of ``new_head`` may have other shapes than they are saved with."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # it would cut through the run's own
    with _reading(f"{key}={path}"):
        loaded: Any = _class(model_class).from_pretrained(
            path,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=must_be_local(path),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **settings,
        )
    model: BertPreTrainedModel
    model, report = loaded
    other = sorted(report["mismatched_keys"])
    if new_head:
        other = [found for found in other if not found[0].startswith(new_head)]
    if other:
        name, found, expected = other[0]
        raise UserError(
            f"{key}={path}: its weights do not fit its config.json: {name} is "
            f"{tuple(found)}, not {tuple(expected)}."
        )
    # That a new head is new goes without saying.
    level = logging.DEBUG if new_head else logging.INFO
    if new := sorted(report["missing_keys"]):
        log.log(level, "New weights, not in %s: %s", path, ", ".join(new))
    if unused := sorted(report["unexpected_keys"]):
        log.log(level, "Weights of %s that are not used: %s", path, ", ".join(unused))
    return model


def read_architecture(path: str, key: str = "model.pretrained") -> BertConfig:
    """Return a checkpoint's configuration; its weights are not read.

    Raises:
        UserError: there is none, or it is of another kind of model.
    """
    from transformers import AutoConfig

    with _reading(f"{key}={path}"):
        found = AutoConfig.from_pretrained(
            path, trust_remote_code=False, local_files_only=must_be_local(path)
        )
    if found.model_type != "bert":
        raise UserError(f"{key}={path}: is a {found.model_type} model, not a BERT.")
    return found


@contextmanager
def _reading(named: str) -> Iterator[None]:
    """Turn what ``transformers`` says of a checkpoint it cannot read into a ``UserError``."""
    from transformers.utils import logging as said

    before = said.get_verbosity()
    said.set_verbosity_error()
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # what it raises depends on where the files do not fit
        reason = str(error).strip().splitlines()[0].rstrip(".:")
        raise UserError(
            f"{named}: no local folder or Hub name that gives a BERT in safetensors ({reason})."
        ) from error
    finally:
        said.set_verbosity(before)


def _check_length(found: BertConfig, max_length: int) -> None:
    if max_length > found.max_position_embeddings:
        raise UserError(
            f"task.max_length={max_length}: the model has only {found.max_position_embeddings} "
            "positions."
        )


def _check_fit(found: BertConfig, config: ModelConfig, tokenizer: WordPieceTokenizer) -> None:
    if found.vocab_size < tokenizer.vocab_size or (
        config.pretrained and found.vocab_size != tokenizer.vocab_size
    ):
        raise UserError(
            f"model.pretrained={config.pretrained}: knows {found.vocab_size} tokens, the tokenizer "
            f"has {tokenizer.vocab_size}; take its own with tokenizer=pretrained."
        )
