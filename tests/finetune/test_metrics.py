"""Metrics equal scikit-learn's and SciPy's on random predictions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn

from bertexp.finetune.config import OF_SCORES
from bertexp.finetune.evaluation import measure


@pytest.mark.filterwarnings("ignore:A single label")
@settings(deadline=None, max_examples=30)
@given(st.integers(2, 60), st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_metrics_of_classes_are_those_of_scikit_learn(count: int, classes: int, seed: int) -> None:
    truth, said = np.random.default_rng(seed).integers(classes, size=(2, count))
    found = measure(["accuracy", "f1", "matthews"], truth, said)
    average = "binary" if max(truth.max(), said.max()) < 2 else "macro"
    assert found == {
        "accuracy": pytest.approx(sklearn.accuracy_score(truth, said)),
        "f1": pytest.approx(sklearn.f1_score(truth, said, average=average, zero_division=0)),
        "matthews": pytest.approx(sklearn.matthews_corrcoef(truth, said)),
    }


@settings(deadline=None, max_examples=30)
@given(st.integers(3, 60), st.integers(0, 2**32 - 1))
def test_metrics_of_scores_are_those_of_scipy(count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    # As in STS-B, many scores occur several times.
    truth, said = generator.integers(6, size=count).astype(np.float32), generator.normal(size=count)
    found = measure(OF_SCORES, truth, said)
    if len(set(truth)) < 2:
        assert all(math.isnan(value) for value in found.values())
        return
    assert found == {
        "pearson": pytest.approx(stats.pearsonr(truth, said).statistic),
        "spearman": pytest.approx(stats.spearmanr(truth, said).statistic),
    }


def test_what_is_not_defined_is_no_number_and_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    same, ones = np.ones(5, np.float32), np.ones(5, np.int64)
    assert all(math.isnan(value) for value in measure(OF_SCORES, np.arange(5.0), same).values())
    assert measure(["matthews", "f1"], ones, 0 * ones) == {"matthews": 0.0, "f1": 0.0}
    assert math.isnan(measure(["pearson"], same[:1], same[:1])["pearson"])
    assert not recwarn.list
