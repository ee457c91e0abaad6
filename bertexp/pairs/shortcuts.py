"""The accuracy of trivial features on sentence pairs, a baseline for models."""

from __future__ import annotations

import warnings

import numpy as np

from bertexp import metrics
from bertexp.objectives.batch import Batch
from bertexp.pairs.examples import PairExamples

# The most pairs that a classifier is fitted to.
FITTED = 2000
SHORTCUT = "eval/nsp_shortcut"
metrics.register(
    f"{SHORTCUT}*", metrics.share("accuracy of a classifier on trivial features", results=False)
)
# The endings for single features.
FEATURES = ("_length", "_overlap", "_position")


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
