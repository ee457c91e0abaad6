"""Probes: the accuracy of linear classifiers on frozen features, layer by layer."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import RenderableType
from rich.text import Text

from bertexp.console import number, table
from bertexp.data.cache import cached
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.evaluation import EVALUATORS
from bertexp.evaluation.evaluator import Evaluator, Source
from bertexp.evaluation.logistic import FOLDS, STRENGTHS, accuracies
from bertexp.evaluation.probes.tasks import Passages, ProbeTask, prepare_tasks
from bertexp.metrics import known_to
from bertexp.objectives.batch import pad
from bertexp.objectives.learner import Learner
from bertexp.validation import require

PREFIX = "probe/"
# Texts in a forward pass on a CPU, and on a GPU.
BATCH_SIZE, GPU_BATCH_SIZE = 64, 512
TFIDF_VERSION, TFIDF_FILE = 1, "accuracy.json"

PICTURE = "probes.png"
COLUMNS = 4


@dataclass(frozen=True)
class Probed:
    """The accuracies of one probe.

    Attributes:
        accuracy: on the features of the configured layer: ``eval/probe/<name>``.
        majority: of always predicting one class; all are equally common.
        tfidf: of the same classifier on TF-IDF.
        layers: on the features of the embeddings and of every layer.
    """

    name: str
    accuracy: float
    majority: float
    tfidf: float
    layers: list[float]


@EVALUATORS.register("probes", reads=("evaluation.probes",))
class Probes(Evaluator):
    """Accuracies of linear classifiers on frozen features: ``eval/probe/<name>``."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        dataset, config = source.dataset, source.config
        passages = Passages(source.corpus, dataset.name, dataset.language)
        self.tasks = prepare_tasks(config.probes, passages, config.probe_examples)
        self.probed: list[Probed] = []

    def check(self, model: Any) -> None:
        layer, layers = self.source.config.probe_layer, model.config.num_hidden_layers
        allowed = f"at most {layers}, the model's layers, or null"
        require(layer is None or layer <= layers, "evaluation.probe_layer", layer, allowed)

    def measure(self, learner: Learner, device: torch.device) -> Iterator[tuple[str, float]]:
        source, config = self.source, self.source.config
        self.probed = []
        for task in self.tasks:
            features_YND = layer_features(
                learner.family.base,
                source.tokenizer,
                task.texts,
                source.max_length,
                config.probe_pooling,
                device,
            )
            features_YND = scaled(features_YND, task.fitted)
            labels_N = torch.from_numpy(task.labels).to(device)
            layers = accuracies(features_YND, labels_N, task.fitted)
            chosen = layers[-1 if config.probe_layer is None else config.probe_layer]
            tfidf = tfidf_accuracy(task)
            self.probed.append(Probed(task.name, chosen, 1 / len(task.classes), tfidf, layers))
            yield f"eval/{PREFIX}{task.name}", chosen

    def fingerprints(self) -> dict[str, str]:
        return {f"{PREFIX}{task.name}": task.fingerprint for task in self.tasks}

    def answered(self) -> dict[str, int]:
        return {f"eval/{PREFIX}{task.name}": len(task.texts) - task.fitted for task in self.tasks}

    def details(self) -> dict[str, Any]:
        return {"probes": [asdict(one) for one in self.probed]}

    def shown(self) -> list[RenderableType]:
        if not self.probed:
            return []
        columns = ("probe", "accuracy", "95% (texts)", "majority", "TF-IDF", "best layer")
        rows = []
        for one in self.probed:
            best = int(np.argmax(one.layers))
            known = known_to(f"eval/{PREFIX}{one.name}", one.accuracy, self.answered())
            yardsticks = (number(one.majority), number(one.tfidf))
            best_layer = f"{number(one.layers[best])} ({best})"
            rows.append((one.name, number(one.accuracy), known, *yardsticks, best_layer))
        note = Text("A linear classifier on frozen features; layer 0 are the embeddings.", "dim")
        return [table(*columns, rows=rows), note, ""]

    def draw(self, folder: Path) -> list[Path]:
        if not self.probed:
            return []
        import matplotlib
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        from bertexp.plotting import FAINT, HUES, STYLE, save

        count = len(self.probed)
        columns, rows = min(count, COLUMNS), -(-count // COLUMNS)
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(0.8 + 2.6 * columns, 0.5 + 2.5 * rows), layout="constrained")
            panels = [*figure.subplots(rows, columns, squeeze=False, sharey=True).flat]
            for axes, one in zip(panels, self.probed, strict=False):
                axes.axhline(one.tfidf, color=HUES[1], ls="--", lw=1.5, label="TF-IDF")
                axes.axhline(one.majority, color=FAINT, ls=":", lw=1.5, label="majority class")
                axes.plot(one.layers, "o-", color=HUES[0], lw=2, ms=5, label="frozen features")
                axes.set_title(one.name, fontsize=10, loc="left")
                axes.set_xlabel("layer")
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
                axes.set_ylim(0, 1.02)
            for axes in panels[count:]:
                axes.set_visible(False)
            panels[0].set_ylabel("accuracy")
            handles, labels = panels[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
            return [save(figure, folder / PICTURE)]


@torch.no_grad()
def layer_features(
    bert: Any,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    max_length: int,
    pooling: str,
    device: torch.device,
) -> torch.Tensor:
    """Return one vector for each text and layer, ``float32`` of shape (layers + 1, texts, hidden).

    The first are those of the embeddings. Texts are encoded with special tokens, in evaluation
    mode, in which the model is left.

    Args:
        bert: a ``BertModel`` of ``transformers``.
        max_length: the length to truncate a text with its special tokens to.
        pooling: ``mean`` (of all tokens, including special ones) or ``cls``.
    """
    bert.eval()
    capacity = max_length - tokenizer.special_in_sequence
    rows = [tokenizer.sequence(ids[:capacity]) for ids in tokenizer.encode([*texts])]
    shape = (len(rows), bert.config.num_hidden_layers + 1, bert.config.hidden_size)
    features_NYD = torch.empty(shape, device=device)
    # Sorted by length, for little padding.
    order = np.argsort([len(row) for row in rows], kind="stable")
    size = BATCH_SIZE if device.type == "cpu" else GPU_BATCH_SIZE
    for chosen in np.split(order, range(size, len(order), size)):
        ids_BL, lengths_B = pad([rows[index] for index in chosen], tokenizer.pad_id)
        mask_BL = torch.from_numpy(np.arange(ids_BL.shape[1]) < lengths_B[:, None]).to(device)
        states = bert(
            input_ids=torch.from_numpy(ids_BL).to(device),
            attention_mask=mask_BL.long(),
            output_hidden_states=True,
        ).hidden_states
        pooled = [_pool(state_BLD, mask_BL, pooling) for state_BLD in states]
        features_NYD[torch.from_numpy(chosen).to(device)] = torch.stack(pooled, dim=1).float()
    return features_NYD.transpose(0, 1)


def _pool(state_BLD: torch.Tensor, mask_BL: torch.Tensor, pooling: str) -> torch.Tensor:
    if pooling == "cls":
        return state_BLD[:, 0]
    return (state_BLD * mask_BL[..., None]).sum(1) / mask_BL.sum(1, keepdim=True)


def scaled(features_YND: torch.Tensor, fitted: int) -> torch.Tensor:
    """Return the features with mean 0 and variance 1 over the first ``fitted`` texts."""
    deviation, mean = torch.std_mean(features_YND[:, :fitted], 1, correction=0, keepdim=True)
    # A constant feature stays one.
    return (features_YND - mean) / deviation.clamp(min=torch.finfo(deviation.dtype).tiny)


def tfidf_accuracy(task: ProbeTask) -> float:
    """Return the accuracy of the same classifier on the words alone, or read it from the cache."""
    key = {"version": TFIDF_VERSION, "task": task.fingerprint}

    def build(folder: Path) -> None:
        (folder / TFIDF_FILE).write_text(json.dumps(_tfidf_accuracy(task)))

    return float(json.loads((cached("tfidf", key, build) / TFIDF_FILE).read_text()))


def _tfidf_accuracy(task: ProbeTask) -> float:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    fitted, texts, labels = task.fitted, task.texts, task.labels
    # There are far more words than texts, and they stay sparse: nothing for batched products.
    classifier = make_pipeline(
        # Words of any length and punctuation: every text has some.
        TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+|[^\w\s]"),
        StandardScaler(with_mean=False),
        LogisticRegressionCV(
            Cs=STRENGTHS, cv=StratifiedKFold(FOLDS), max_iter=200, scoring="accuracy"
        ),
    )
    with warnings.catch_warnings():
        # A weak penalty may need more iterations; scikit-learn announces new defaults.
        warnings.simplefilter("ignore")
        # For products this small, threads cost more than they gain.
        with threadpool_limits(1, user_api="blas"):
            classifier.fit(texts[:fitted], labels[:fitted])
    return float(classifier.score(texts[fitted:], labels[fitted:]))
