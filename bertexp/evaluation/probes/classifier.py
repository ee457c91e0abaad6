"""The linear classifier of all probes: logistic regression, its strength by cross-validation."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from bertexp.evaluation.probes.questions import Questions

# Inverse strengths of the L2 penalty that are tried, for features of unit variance.
STRENGTHS = (1e-4, 1e-2, 1.0, 1e2)
FOLDS = 3
MOST_ITERATIONS = 200


def accuracy(features_ND: Any, questions: Questions) -> float:
    """Return the accuracy on the last third of the texts of a classifier fitted to the others.

    Args:
        features_ND: a row a text, dense or sparse; scaled here to unit variance.
        questions: the texts' classes, and which are for fitting.
    """
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    fitted, labels = questions.fitted, questions.labels
    classifier = make_pipeline(
        # What is sparse stays so.
        StandardScaler(with_mean=isinstance(features_ND, np.ndarray)),
        LogisticRegressionCV(
            Cs=STRENGTHS, cv=StratifiedKFold(FOLDS), max_iter=MOST_ITERATIONS, scoring="accuracy"
        ),
    )
    with warnings.catch_warnings():
        # A weak penalty may take more iterations; scikit-learn tells of defaults to come.
        warnings.simplefilter("ignore")
        # Products this small lose more to threads that wait for each other than they gain.
        with threadpool_limits(1, user_api="blas"):
            classifier.fit(features_ND[:fitted], labels[:fitted])
    return float(classifier.score(features_ND[fitted:], labels[fitted:]))


def tfidf_accuracy(questions: Questions) -> float:
    """Return the accuracy of the same classifier on the words alone, weighed by TF-IDF."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    # Words and punctuation, one letter or many: any text has some.
    vectorizer = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+|[^\w\s]")
    vectorizer.fit(questions.texts[: questions.fitted])
    return accuracy(vectorizer.transform(questions.texts), questions)
