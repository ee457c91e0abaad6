"""Examples that are pairs of segments, and the accuracy that trivial features of them reach."""

from __future__ import annotations

import warnings

import numpy as np
import torch

from bertexp import metrics
from bertexp.data.tokens.store import TokenStore
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.objectives.batch import Batch, written
from bertexp.objectives.config import TaskConfig
from bertexp.objectives.examples import Examples
from bertexp.objectives.positions import use_first_position
from bertexp.pairs import NEXT, SEGMENTS, negative_shares
from bertexp.pairs.drawer import PairDrawer
from bertexp.pairs.text import Text
from bertexp.validation import UserError

# The most pairs that a classifier is fitted to.
FITTED = 2000
SHORTCUT = "eval/nsp_shortcut"
metrics.register(
    f"{SHORTCUT}*", metrics.share("accuracy of a classifier on trivial features", results=False)
)
# The endings for single features.
FEATURES = ("_length", "_overlap", "_position")


class PairExamples(Examples):
    """Pairs of segments, some of which follow each other, as they were written.

    Args:
        tokens: the split, cut into sentences.
        name: of the objective that predicts whether the second segment follows; None if none does.

    Raises:
        UserError: the corpus has no such pairs.
    """

    def __init__(
        self,
        tokens: TokenStore,
        config: TaskConfig,
        tokenizer: Tokenizer,
        seed: int,
        name: str | None,
    ) -> None:
        self._text = Text(tokens)
        capacity = config.max_length - tokenizer.special_in_pair
        self.drawer = _drawer(self._text, config, config.segments, seed, capacity)
        self._pad_to, self._tokenizer, self._name = config.pad_to, tokenizer, name
        if len(self) < 2:
            raise _too_few(self._text, config, seed, capacity)

    def __len__(self) -> int:
        return len(self.drawer.sentences)

    def documents(self) -> np.ndarray:
        return self._text.document_of(self.drawer.sentences)

    def lengths(self, epoch: int) -> np.ndarray:
        pairs = self.drawer.pairs(epoch)
        return pairs.first_sizes + pairs.second_sizes + self._tokenizer.special_in_pair

    def strata(self, epoch: int) -> np.ndarray:
        return self.drawer.pairs(epoch).kinds

    def places(self, epoch: int, example_ids: np.ndarray) -> np.ndarray:
        """Return the segments' places in their paragraphs, from 0 to 1, shape (batch, 2)."""
        pairs = self.drawer.pairs(epoch).of(example_ids)
        both = np.stack([pairs.first_sentences, pairs.second_sentences], axis=1)
        return self._text.place_in_paragraph(both)

    def shares(self, epoch: int) -> dict[str, float]:
        counts = np.bincount(self.strata(epoch), minlength=len(self.drawer.kinds))
        assert self.drawer.kinds[0] == NEXT
        return dict(zip(self.drawer.kinds, (counts / len(self)).tolist(), strict=True))

    def batch(self, epoch: int, example_ids: np.ndarray) -> Batch:
        pairs = self.drawer.pairs(epoch).of(example_ids)
        tokens, tokenizer = self._text.tokens, self._tokenizer
        segments = (pairs.first_starts, pairs.first_sizes, pairs.second_starts, pairs.second_sizes)
        rows = [
            tokenizer.sequence(tokens[a : a + size_a], tokens[b : b + size_b])
            for a, size_a, b, size_b in zip(*segments, strict=True)
        ]
        # Only the closing token comes after the second segment.
        second_B = pairs.first_sizes + tokenizer.special_in_pair - 1
        batch = written(example_ids, rows, tokenizer.pad_id, self._pad_to, second_B)
        if self._name is None:
            return batch
        return use_first_position(batch, self._name, torch.from_numpy(pairs.labels))


def _drawer(text: Text, config: TaskConfig, segments: str, seed: int, capacity: int) -> PairDrawer:
    segmentation = SEGMENTS[segments](text, capacity, config.short_prob)
    shares = negative_shares(config.negatives)
    return PairDrawer(segmentation, shares, config.next_prob, config.dynamic, seed)


def _too_few(text: Text, config: TaskConfig, seed: int, capacity: int) -> UserError:
    drawers = {name: _drawer(text, config, name, seed, capacity) for name in SEGMENTS.names()}
    found = {name: len(drawer.sentences) for name, drawer in drawers.items()}
    sizes = np.diff(text.paragraph_offsets)
    counts = [f"{n} with {size}" for size, n in enumerate(np.bincount(sizes)[1:4], 1) if n]
    if more := int((sizes > 3).sum()):
        counts.append(f"{more} with more")
    others = [f"task.segments={name} finds {n}" for name, n in found.items() if n > 1]
    advice = "other task.negatives or task.sentences, or longer documents, may give some"
    return UserError(
        f"task.segments={config.segments} with "
        f"task.negatives={', '.join(negative_shares(config.negatives))} finds "
        f"{found[config.segments]} pairs in {len(sizes)} paragraphs of a split (sentences in each: "
        f"{', '.join(counts)}), which are {len(text.document_offsets) - 1} documents; "
        f"{', '.join(others) or advice}."
    )


def shortcut_accuracies(
    kind: str, train: PairExamples, validation: PairExamples, tested: np.ndarray
) -> dict[str, float]:
    """Return the accuracy of logistic regressions on features that need no understanding.

    They are fitted to training pairs and tested on the pairs of the bank, as a baseline for
    ``eval/nsp_accuracy@<kind>``. The features:

    - ``length``: the lengths of the two segments in tokens, and their difference;
    - ``overlap``: the share of each segment's tokens that occur in the other, and the Jaccard
      index of both;
    - ``position``: the places of the two segments in their paragraphs, and the difference. Models
      do not see these, but the text may reveal them.

    Returns:
        ``eval/nsp_shortcut@<kind>`` for all features together, and for single ones
        ``eval/nsp_shortcut_length@<kind>``, ``..._overlap@<kind>``, ``..._position@<kind>``.
    """
    fitted = np.arange(len(train))[:: -(-len(train) // FITTED)]
    train_features, test_features = _features(train, fitted), _features(validation, tested)
    train_labels, test_labels = train.strata(0)[fitted] > 0, validation.strata(0)[tested] > 0
    accuracies = {}
    for name, chosen in {"": FEATURES, **{feature: (feature,) for feature in FEATURES}}.items():
        columns_train = np.hstack([train_features[feature] for feature in chosen])
        columns_test = np.hstack([test_features[feature] for feature in chosen])
        accuracy = _accuracy(columns_train, train_labels, columns_test, test_labels)
        accuracies[f"{SHORTCUT}{name}@{kind}"] = accuracy
    return accuracies


def _accuracy(
    train_NF: np.ndarray, train_N: np.ndarray, test_NF: np.ndarray, test_N: np.ndarray
) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if train_N.all() or not train_N.any():
        return float(np.mean(test_N == train_N[0]))
    classifier = make_pipeline(StandardScaler(), LogisticRegression())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a feature that is the same everywhere
        classifier.fit(train_NF, train_N)
    return float(classifier.score(test_NF, test_N))


def _features(examples: PairExamples, chosen: np.ndarray) -> dict[str, np.ndarray]:
    """Return the features of pairs of the first epoch by name, each of shape (N, F)."""
    batch = examples.batch(0, chosen)
    sets = [_token_sets(batch, row) for row in range(len(chosen))]
    shared = np.array([len(a & b) for a, b in sets])
    sizes = np.array([[len(a), len(b), len(a | b)] for a, b in sets])
    assert batch.token_type_ids_BL is not None
    second = batch.token_type_ids_BL.numpy().sum(1) - 1
    first = examples.lengths(0)[chosen] - second - 3
    places = examples.places(0, chosen)
    return {
        "_length": np.stack([first, second, np.abs(first - second)], axis=1),
        "_overlap": shared[:, None] / sizes,
        "_position": np.column_stack([places, places[:, 1] - places[:, 0]]),
    }


def _token_sets(batch: Batch, row: int) -> tuple[set[int], set[int]]:
    assert batch.token_type_ids_BL is not None
    ids, types = batch.input_ids_BL[row].numpy(), batch.token_type_ids_BL[row].numpy()
    second = np.flatnonzero(types)
    return set(ids[1 : second[0] - 1].tolist()), set(ids[second[:-1]].tolist())
