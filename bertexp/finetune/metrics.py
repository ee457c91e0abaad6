"""The metrics of labelled tasks, as GLUE defines them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np

from bertexp.finetune.config import OF_CLASSES, OF_SCORES


def _accuracy(truth: np.ndarray, said: np.ndarray) -> float:
    return float(np.mean(truth == said))


def _f1(truth: np.ndarray, said: np.ndarray) -> float:
    """Of the second class where there are two, else the mean over all (macro)."""
    from sklearn.metrics import f1_score

    binary = max(truth.max(), said.max()) < 2
    return float(f1_score(truth, said, average="binary" if binary else "macro", zero_division=0))


def _matthews(truth: np.ndarray, said: np.ndarray) -> float:
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(truth, said))


def _pearson(truth: np.ndarray, said: np.ndarray) -> float:
    from scipy.stats import pearsonr

    return float(pearsonr(truth, said).statistic)


def _spearman(truth: np.ndarray, said: np.ndarray) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(truth, said).statistic)


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews": _matthews,
    "pearson": _pearson,
    "spearman": _spearman,
}
assert METRICS.keys() == {*OF_CLASSES, *OF_SCORES}


def measure(names: Sequence[str], truth: np.ndarray, said: np.ndarray) -> dict[str, float]:
    """Return metrics by name, the higher the better; NaN where one is not defined.

    Args:
        names: which of ``METRICS``.
        truth: the right answers: numbers of classes, or scores.
        said: what a model says.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no correlation with what is the same everywhere
        if len(truth) < 2:
            return {n: math.nan if n in OF_SCORES else METRICS[n](truth, said) for n in names}
        return {name: METRICS[name](truth, said) for name in names}
