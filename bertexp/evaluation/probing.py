"""Probes: the accuracy of linear classifiers on frozen features, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import RenderableType
from rich.text import Text

from bertexp.console import number, table
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.evaluation import EVALUATORS
from bertexp.evaluation.evaluator import Evaluator, Source
from bertexp.evaluation.logistic import accuracies
from bertexp.evaluation.probes.tasks import Passages, ProbeTask, prepare_tasks
from bertexp.evaluation.tfidf import tfidf_accuracy
from bertexp.metrics import accuracy_interval
from bertexp.objectives.base import Reference
from bertexp.objectives.batch import pad
from bertexp.objectives.learner import Learner
from bertexp.validation import require

PREFIX = "probe/"
# Texts in a forward pass on a CPU, and on a GPU.
BATCH_SIZE, GPU_BATCH_SIZE = 64, 512
# Of the cached accuracies of untrained encoders.
VERSION = 2

COLUMNS = 4


@dataclass(frozen=True)
class Probed:
    """The accuracies of one probe.

    Attributes:
        accuracy: on the features of the configured layer: ``eval/probe/<name>``.
        untrained: on those of the same encoder with initial weights, so that the difference is what
            training has added.
        control: of the same classifier on the same features with random labels (Hewitt and Liang
            2019, "Designing and interpreting probes with control tasks"). A classifier can
            memorise the labels of words, which recur, as in the paper; texts do not recur, so this
            differs from ``majority`` only by chance unless texts of both parts are related.
        majority: of always predicting one class; all are equally common.
        tfidf: of the same classifier on TF-IDF.
        layers: on the features of the embeddings and of every layer.
    """

    name: str
    accuracy: float
    untrained: float
    control: float
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
        self.reference = Reference(
            answered={f"eval/{PREFIX}{t.name}": len(t.texts) - t.fitted for t in self.tasks},
            fingerprints={f"{PREFIX}{task.name}": task.fingerprint for task in self.tasks},
        )
        self.probed: list[Probed] = []

    def check(self, model: Any) -> None:
        layer, layers = self.source.config.probe_layer, model.config.num_hidden_layers
        allowed = f"at most {layers}, the model's layers, or null"
        require(layer is None or layer <= layers, "evaluation.probe_layer", layer, allowed)

    def measure(self, learner: Learner, device: torch.device) -> Iterator[tuple[str, float]]:
        self.probed = []
        if not self.tasks:
            return
        features = self._features(learner.family.base, self.tasks, device)
        for task, features_YND in zip(self.tasks, features, strict=True):
            layers = accurate(features_YND, task.labels, task.fitted)
            initial = self._untrained(learner, task, device)
            layer = -1 if self.source.config.probe_layer is None else self.source.config.probe_layer
            (control,) = accurate(features_YND[layer][None], task.control, task.fitted)
            yardsticks = (initial[layer], control, 1 / len(task.classes), tfidf_accuracy(task))
            self.probed.append(Probed(task.name, layers[layer], *yardsticks, layers))
            yield f"eval/{PREFIX}{task.name}", layers[layer]

    def _features(
        self, bert: Any, tasks: Sequence[ProbeTask], device: torch.device
    ) -> list[torch.Tensor]:
        """Return the scaled features of each task, from one pass over the texts of all.

        Another choice of probes makes other batches, and so may change a feature's last bits.
        """
        source, dtype = self.source, self.source.autocast
        texts = [text for task in tasks for text in task.texts]
        given = (source.tokenizer, texts, source.max_length, source.config.probe_pooling)
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            features_YND = layer_features(bert, *given, device)
        parts = features_YND.split([len(task.texts) for task in tasks], dim=1)
        return [scaled(part, task.fitted) for part, task in zip(parts, tasks, strict=True)]

    def _untrained(self, learner: Learner, task: ProbeTask, device: torch.device) -> list[float]:
        """Return the accuracy on each layer of an encoder with initial weights."""
        key = {
            "version": VERSION,
            "task": task.fingerprint,
            "pooling": self.source.config.probe_pooling,
            "autocast": str(self.source.autocast),
        }

        def measured(model: Any) -> list[float]:
            (features_YND,) = self._features(model.base_model.to(device), [task], device)
            return accurate(features_YND, task.labels, task.fitted)

        accuracy: list[float] = self.of_untrained(learner, key, measured)
        return accuracy

    def summary(self) -> dict[str, Any]:
        return {"probes": [asdict(one) for one in self.probed]}

    def details(self) -> list[RenderableType]:
        if not self.probed:
            return []
        heads = ("probe", "accuracy", "95% (texts)", "untrained", "control", "TF-IDF", "best layer")
        rows = []
        for one in self.probed:
            best = int(np.argmax(one.layers))
            answered = self.reference.answered
            known = accuracy_interval(f"eval/{PREFIX}{one.name}", one.accuracy, answered)
            yardsticks = (number(one.untrained), number(one.control), number(one.tfidf))
            best_layer = f"{number(one.layers[best])} ({best})"
            rows.append((one.name, number(one.accuracy), known, *yardsticks, best_layer))
        note = Text(
            "A linear classifier on frozen features (0: embeddings); control: random labels.", "dim"
        )
        return [table(*heads, rows=rows), note, ""]

    def tables(self) -> dict[str, tuple[list[str], list[list[Any]]]]:
        columns = ["name", "accuracy", "untrained", "control", "majority", "tfidf"]
        rows = [[getattr(one, column) for column in columns] for one in self.probed]
        return {"evaluation/probes": (columns, rows)} if rows else {}

    def draw(self, beginning: Path) -> None:
        if not self.probed:
            return
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        from bertexp.plotting import FAINT, HUES, drawing, save

        count = len(self.probed)
        columns, rows = min(count, COLUMNS), -(-count // COLUMNS)
        width, height = 0.8 + 2.6 * columns, 0.5 + 2.5 * rows
        with drawing():
            figure = Figure(figsize=(width, height))
            # A layout that matplotlib finds by itself takes twice the time.
            figure.subplots_adjust(
                *(0.6 / width, 0.85 / height, 1 - 0.1 / width, 1 - 0.3 / height), 0.1, 0.4
            )
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
            figure.legend(
                handles, labels, loc="lower center", ncols=3, fontsize=9 if count > 1 else 7
            )
            save(figure, Path(f"{beginning}-probes.png"))


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
        pooled = [_pool(state_BLD.float(), mask_BL, pooling) for state_BLD in states]
        features_NYD[torch.from_numpy(chosen).to(device)] = torch.stack(pooled, dim=1)
    return features_NYD.transpose(0, 1)


def accurate(features_YND: torch.Tensor, labels: np.ndarray, fitted: int) -> list[float]:
    """Return the accuracy on the features of each layer, see ``accuracies``."""
    return accuracies(features_YND, torch.from_numpy(labels).to(features_YND.device), fitted)


def _pool(state_BLD: torch.Tensor, mask_BL: torch.Tensor, pooling: str) -> torch.Tensor:
    if pooling == "cls":
        return state_BLD[:, 0]
    return (state_BLD * mask_BL[..., None]).sum(1) / mask_BL.sum(1, keepdim=True)


def scaled(features_YND: torch.Tensor, fitted: int) -> torch.Tensor:
    """Return the features with mean 0 and variance 1 over the first ``fitted`` texts."""
    deviation, mean = torch.std_mean(features_YND[:, :fitted], 1, correction=0, keepdim=True)
    # A constant feature stays one.
    return (features_YND - mean) / deviation.clamp(min=torch.finfo(deviation.dtype).tiny)
