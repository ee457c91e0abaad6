"""Checkpoints of BERT: what of their ``config.json`` counts, and their weights, in float32."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bertexp.data.hub import is_away, must_be_local
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.validation import UserError

if TYPE_CHECKING:
    from transformers import BertConfig, BertPreTrainedModel

log = logging.getLogger(__name__)

# By the heads that a model needs, the class of ``transformers`` that has them.
MODEL_CLASSES = {
    frozenset({"masked"}): "BertForMaskedLM",
    frozenset({"pair"}): "BertForNextSentencePrediction",
    frozenset({"masked", "pair"}): "BertForPreTraining",
    frozenset({"label"}): "BertForSequenceClassification",
}

# Of a ``config.json``, what makes another model of it than the one that is trained here, and what
# such a field may be. ``transformers`` passes some of them over without a word.
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
# What only says how it is stored, computed and returned: that is decided here.
_NOT_READ = (
    *("dtype", "torch_dtype", "attn_implementation", "_attn_implementation"),
    *("chunk_size_feed_forward", "gradient_checkpointing", "use_cache"),
    *("return_dict", "output_attentions", "output_hidden_states"),
)
# An embedding table may have so many rows more than another tokenizer than its own has tokens:
# tables are filled up to multiples of 8 to 1024, which makes products faster.
_MOST_FILLED = 1024
# What a checkpoint that is gone on from may lack: heads and what only they read.
_HEADS = re.compile(r"(^|\.)(cls|classifier|qa_outputs|pooler)\.")


def read_architecture(path: str, key: str = "model.pretrained") -> BertConfig:
    """Return a checkpoint's configuration; its weights are not read.

    Raises:
        UserError: there is none, or it is of another kind of model.
    """
    from transformers import BertConfig

    named = f"{key}={path}"
    with _reading(named):
        found, _ = BertConfig.get_config_dict(path, local_files_only=must_be_local(path))
        kind = found.get("model_type", "")
        if kind != "bert":
            what = f"is a {kind} model, not a BERT" if kind else "its config.json has no model_type"
            raise UserError(f"{named}: {what}; a BERT's model_type is bert.")
        for name, allowed in _MUST_BE.items():
            value = found.get(name) or allowed
            if value != allowed:
                raise UserError(
                    f"{named}: its config.json has {name}={value}; bertexp trains plain BERT "
                    f"encoders, where it is {allowed or 'false or absent'}."
                )
        return BertConfig.from_dict({k: v for k, v in found.items() if k not in _NOT_READ})


def check_fit(
    found: BertConfig,
    tokenizer: Tokenizer,
    named: str,
    other: str = "",
    resize: bool = False,
) -> None:
    """Look whether every token of a tokenizer has a row in a checkpoint's embedding table.

    Rows that no token has are never predicted and never put in.

    Args:
        found: the checkpoint's configuration.
        tokenizer: the tokenizer.
        named: the checkpoint, for error messages.
        other: the tokenizer, for error messages, where it is not the checkpoint's own.
        resize: whether rows will be added.

    Raises:
        UserError: they do not fit.
    """
    rows, tokens = found.vocab_size, tokenizer.vocab_size
    theirs = other or "its tokenizer"
    if tokens > rows and not resize:
        raise UserError(
            f"{named}: has {rows} rows of embeddings, {theirs} has {tokens} tokens; "
            "training with model.resize=true adds rows, for tokens added to its own tokenizer."
        )
    if other and rows - tokens >= _MOST_FILLED:
        raise UserError(
            f"{named}: has {rows} rows of embeddings, {theirs} only {tokens} tokens; leave "
            "tokenizer out to take its own."
        )


def must_read_pairs(found: BertConfig, key: str) -> None:
    """Raise a ``UserError`` if a model has one segment type and ``key`` gives it two segments."""
    if found.type_vocab_size < 2:
        raise UserError(
            f"{key}: is a pair of texts, and the model knows one kind of segment only "
            f"(type_vocab_size={found.type_vocab_size} in its config.json)."
        )


def load_model(
    path: str, heads: frozenset[str] | None = None, key: str = "model.pretrained"
) -> BertPreTrainedModel:
    """Return a checkpoint's model, its weights in float32 whatever they were saved in.

    Args:
        path: a local folder or a Hub name.
        heads: what of a model is needed, which is drawn where the checkpoint lacks it; None for
            the class it was saved as, with all its heads.
        key: what the user calls ``path``, for error messages.

    Raises:
        UserError: it cannot be loaded or is no BERT.
    """
    config = read_architecture(path, key)
    may_lack = _HEADS if heads else re.compile(r"(^|\.)pooler\.")
    saved_as = MODEL_CLASSES[heads] if heads else _saved_as(config, f"{key}={path}")
    return _load(path, saved_as, key, config, may_lack)


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
    config = read_architecture(path, "run")
    config.id2label = names
    config.label2id = {name: number for number, name in names.items()}
    config.problem_type = "single_label_classification" if labels else "regression"
    new_head = "classifier."
    return _load(path, "BertForSequenceClassification", "run", config, _HEADS, new_head)


def add_rows(model: BertPreTrainedModel, tokens: int) -> None:
    """Give a model's embeddings a row for each of so many tokens.

    New ones are drawn around the mean of the others, so that they neither stand out nor vanish
    (Hewitt 2021, "Initializing new word embeddings for pretrained language models").
    """
    with _reading("model.resize"):
        model.resize_token_embeddings(tokens)


def bert_class(name: str) -> type[BertPreTrainedModel]:
    """Return a class of ``transformers`` by its name."""
    from transformers.models.bert import modeling_bert

    return getattr(modeling_bert, name)


def _saved_as(config: BertConfig, named: str) -> str:
    from transformers.models.bert import modeling_bert

    name = (config.architectures or ["BertModel"])[0]
    if name not in modeling_bert.__all__:
        raise UserError(f"{named}: is a {name}, which transformers has no class for.")
    return name


def _load(
    path: str,
    model_class: str,
    key: str,
    config: BertConfig,
    may_lack: re.Pattern[str],
    new_head: str | None = None,
) -> BertPreTrainedModel:
    """Load a model; weights of ``new_head`` may have other shapes than they are saved with."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # it would cut through the run's own
    named = f"{key}={path}"
    _must_not_be_pickled(Path(path), model_class, named)
    with _reading(named):
        loaded: Any = bert_class(model_class).from_pretrained(
            path,
            config=config,
            dtype=torch.float32,
            attn_implementation="sdpa",
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=must_be_local(path),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    model, report = loaded
    other = [
        found
        for found in sorted(report["mismatched_keys"])
        if not (new_head and found[0].startswith(new_head))
    ]
    if other:
        name, found, expected = other[0]
        raise UserError(
            f"{named}: its weights do not fit its config.json: {name} is {tuple(found)}, not "
            f"{tuple(expected)}."
        )
    _untie(model, report["missing_keys"])
    new = sorted(report["missing_keys"])
    if lost := [name for name in new if not may_lack.search(name)]:
        raise UserError(
            f"{named}: {len(lost)} of the weights of a {model_class} are not in it, {lost[0]} "
            "among them."
        )
    # That a new head is new goes without saying.
    level = logging.DEBUG if new_head else logging.INFO
    if new:
        log.log(level, "New weights, not in %s: %s", path, ", ".join(new))
    if unused := sorted(report["unexpected_keys"]):
        log.log(level, "Weights of %s that are not used: %s", path, ", ".join(unused))
    return model


def _must_not_be_pickled(folder: Path, model_class: str, named: str) -> None:
    if any(folder.glob("*.bin")) and not any(folder.glob("*.safetensors")):
        write = f"from_pretrained('{folder}').save_pretrained('{folder}')"
        raise UserError(
            f"{named}: its weights are pickled, and bertexp reads safetensors only; write them so: "
            f'python -c "from transformers import {model_class} as M; M.{write}"'
        )


@torch.no_grad()
def _untie(model: Any, missing: set[str]) -> None:
    """Set right the output bias of a model whose head has a vocabulary table of its own.

    Such a model has the bias twice, and uses the decoder's. What ``transformers`` 4 saved holds
    the other one only, which then stood for both.
    """
    head = getattr(getattr(model, "cls", None), "predictions", None)
    if head is None or head.bias is head.decoder.bias:
        return
    if (name := "cls.predictions.decoder.bias") in missing:
        head.decoder.bias.copy_(head.bias)
        missing.remove(name)
    # It gets no gradient, for which several processes would wait.
    head.bias.requires_grad_(False)


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
        key, _, path = named.partition("=")
        if is_away(path):
            scratch = "" if key == "run" else " model=tiny tokenizer=wordpiece (from scratch), or"
            raise UserError(
                f"{named}: the Hugging Face Hub does not answer and the model is not in its cache "
                f"here; type{scratch} {key}=FOLDER of a BERT, or run this once with a network."
            ) from error
        reason = str(error).strip().splitlines()[0].rstrip(".:")
        raise UserError(
            f"{named}: no local folder or Hub name that gives a BERT in safetensors ({reason})."
        ) from error
    finally:
        said.set_verbosity(before)
