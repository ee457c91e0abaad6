"""What an encoder's frozen features are worth on every probe, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bertexp.evaluation.probes.classifier import accuracy, tfidf_accuracy
from bertexp.evaluation.probes.features import layer_features
from bertexp.evaluation.probes.questions import Questions
from bertexp.validation import require

if TYPE_CHECKING:
    import torch

    from bertexp.data.tokens.tokenizer import WordPieceTokenizer
    from bertexp.evaluation.config import EvaluationConfig

PREFIX = "probe/"


@dataclass(frozen=True)
class Probed:
    """The accuracies of one probe.

    Attributes:
        name: the probe's.
        accuracy: on the features of the layer that was chosen: ``eval/probe/<name>``.
        majority: of the commonest class.
        tfidf: of the same classifier on TF-IDF.
        layers: on the features of the embeddings and of every layer.
    """

    name: str
    accuracy: float
    majority: float
    tfidf: float
    layers: list[float]


def must_have_layer(config: EvaluationConfig, layers: int) -> None:
    """Raise a ``UserError`` unless a model of so many layers has the one that is probed."""
    allowed = f"at most {layers}, the model's layers, or null"
    layer = config.probe_layer
    require(layer is None or layer <= layers, "evaluation.probe_layer", layer, allowed)


def probe(
    bert: Any,
    tokenizer: WordPieceTokenizer,
    questions: Sequence[Questions],
    config: EvaluationConfig,
    max_length: int,
    device: torch.device,
) -> list[Probed]:
    """Return what every probe finds; the model is left in evaluation mode.

    Args:
        bert: a ``BertModel`` of ``transformers``.
        tokenizer: what cuts the texts.
        questions: the probes' texts.
        config: which pooling and layer count.
        max_length: what a text is cut to, in tokens.
        device: where the model is.
    """
    found = []
    for asked in questions:
        features = layer_features(
            bert, tokenizer, asked.texts, max_length, config.probe_pooling, device
        )
        layers = [accuracy(features_ND, asked) for features_ND in features]
        chosen = layers[-1 if config.probe_layer is None else config.probe_layer]
        tfidf = tfidf_accuracy(asked)
        found.append(Probed(asked.name, chosen, asked.majority, tfidf, layers))
    return found


def probe_metrics(found: Sequence[Probed]) -> dict[str, float]:
    """Return ``eval/probe/<name>``: the accuracy of each."""
    return {f"eval/{PREFIX}{one.name}": one.accuracy for one in found}
