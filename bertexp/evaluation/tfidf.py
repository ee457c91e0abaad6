"""The yardstick of probes: the same classifier on the words alone."""

from __future__ import annotations

import warnings

from bertexp.data.cache import cached_json
from bertexp.evaluation.logistic import FOLDS, STRENGTHS
from bertexp.evaluation.probes.tasks import ProbeTask

VERSION = 2


def tfidf_accuracy(task: ProbeTask) -> float:
    """Return the accuracy of the same classifier on the words alone, or read it from the cache."""
    key = {"version": VERSION, "task": task.fingerprint}
    return float(cached_json("tfidf", key, lambda: _tfidf_accuracy(task)))


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
