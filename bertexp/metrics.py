"""The table of metrics: for each its direction, unit and range, and where it is shown.

The terminal's report, W&B's summary, the comparison and its page read this table and nothing
else. The code that computes a metric registers its row, and so does a plugin::

    from bertexp import metrics

    metrics.register("eval/perplexity@*", lower_is_better=True, low=1.0, results=False)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from statistics import NormalDist
from typing import Any

# A run's own record of them, in its folder: one JSON object a line.
METRICS_FILE = "metrics.jsonl"
# What runs of different tokenizers are compared by.
BITS_PER_BYTE = "eval/bits_per_byte"


@dataclass(frozen=True)
class Metric:
    """A row.

    Attributes:
        lower_is_better: None if neither direction is better or it is unknown; then runs are not
            ranked by it, and W&B's summary keeps no best value.
        unit: of its values, empty if they have none.
        low, high: the range of its values.
        line: whether the line that training prints for an evaluation shows it.
        results: whether the table of results at the end of a run shows it.
        comparison: whether comparisons show it beside the metric that runs are compared by.
        meaning: one line for people.
    """

    lower_is_better: bool | None = None
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    line: bool = False
    results: bool = True
    comparison: bool = False
    meaning: str = ""

    @property
    def best(self) -> str | None:
        return {True: "min", False: "max", None: None}[self.lower_is_better]

    @property
    def compared_by(self) -> tuple[object, ...]:
        return self.lower_is_better, self.unit, self.low, self.high, self.comparison


def share(meaning: str = "", **more: Any) -> Metric:
    """Return the row of a share of right answers."""
    return Metric(lower_is_better=False, low=0.0, high=1.0, meaning=meaning, **more)


def correlation(meaning: str = "", **more: Any) -> Metric:
    """Return the row of a correlation with the right answers."""
    return Metric(lower_is_better=False, low=-1.0, high=1.0, meaning=meaning, **more)


LOSS = Metric(
    lower_is_better=True, unit="nats", low=0.0, meaning="mean negative log-likelihood a prediction"
)
PERPLEXITY = Metric(lower_is_better=True, low=1.0, meaning="the exponential of the loss")

# The keys are names of metrics, patterns of names (with `*`) and endings of names: `accuracy` is
# the row of `eval/nsp_accuracy` and of `eval/nsp_accuracy@swap`. A name is preferred to a pattern,
# a pattern to an ending, and the longest of several.
METRICS: dict[str, Metric] = {}


def register(name: str, row: Metric | None = None, **values: Any) -> None:
    """Add a row to the table, or replace it; ``values`` are attributes of ``Metric``.

    ``name`` is a metric's, a pattern or an ending; see ``METRICS``.
    """
    METRICS[name] = row or Metric(**values)


def describe(name: str) -> Metric:
    """Return a metric's row; that of an unknown one has no direction, unit or range."""
    return _find(name, METRICS)


def _find(name: str, rows: Mapping[str, Metric]) -> Metric:
    if name in rows:
        return rows[name]
    stem = name.partition("@")[0].rpartition("/")[2]
    patterns = [key for key in rows if "*" in key and fnmatchcase(name, key)]
    endings = [key for key in rows if f"_{stem}".endswith(f"_{key}")]
    row = rows.get(max(patterns or endings, key=len, default=""), Metric())
    # A metric under one of several conditions is a detail.
    return replace(row, line=False) if "@" in name else row


def cost(name: str, value: float) -> float:
    """Return a metric's value such that lower is better; infinite if it is undefined.

    Raises:
        ValueError: the metric's row has no direction.
    """
    row = describe(name)
    if row.lower_is_better is None:
        raise ValueError(f"{name}: its row in bertexp.metrics.METRICS has no lower_is_better.")
    return math.inf if math.isnan(value) else value if row.lower_is_better else -value


def own_rows(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the rows of the metrics that plugins have added or changed.

    A run keeps them, so that it can be compared where its plugins are missing.
    """
    rows = {name: describe(name) for name in names}
    plain = asdict(Metric())
    return {
        name: {key: value for key, value in asdict(row).items() if value != plain[key]}
        for name, row in rows.items()
        if row.compared_by != _find(name, _BUILT_IN).compared_by
    }


def register_rows(rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Add the rows that a run has kept, except those that the table has."""
    known = asdict(Metric())
    for name, values in rows.items():
        METRICS.setdefault(name, Metric(**{k: v for k, v in values.items() if k in known}))


register("loss", LOSS)
register("eval/loss", replace(LOSS, line=True))
register("perplexity", PERPLEXITY)
register(
    "calibration_error",
    lower_is_better=True,
    low=0.0,
    high=1.0,
    meaning="mean distance of confidence from accuracy",
)
register("accuracy", share("share of right answers", line=True))
register("f1", share("harmonic mean of precision and recall", line=True))
register("matthews", correlation("Matthews correlation of classes", line=True))
register("pearson", correlation("linear correlation of scores", line=True))
register("spearman", correlation("rank correlation of scores", line=True))
register(
    "eval/probe/*",
    share("accuracy of a linear classifier on frozen features", results=False, comparison=True),
)
register(
    BITS_PER_BYTE,
    lower_is_better=True,
    unit="bits/byte",
    low=0.0,
    meaning="each word predicted from all the others, whatever tokens it is cut into",
)
register(
    f"{BITS_PER_BYTE}@spelling",
    unit="bits/byte",
    low=0.0,
    meaning="its part for what tokens do not tell: case, spaces, unknown words",
)
register(
    f"{BITS_PER_BYTE}@pieces",
    unit="bits/byte",
    low=0.0,
    meaning="its part for how many pieces words have, which masks give away",
)
# Losses at different mask rates cannot be compared: what training logs has no direction.
register("train/*loss", unit="nats", meaning="mean loss since the line before")
register("train/*cross_entropy", unit="nats", meaning="train/loss without task.loss.*")
register("train/*", Metric())
register("train/tokens_per_second", unit="tokens/s", meaning="speed of training, without padding")
register("train/learning_rate", meaning="learning rate of the last step")
register("train/grad_norm", meaning="norm of the last step's gradient, before it is clipped")
register("train/mfu", low=0.0, meaning="share of the machine's matrix product that is reached")
register("train/padding", low=0.0, high=1.0, meaning="share of positions that are padding")
register("train/mask_prob", low=0.0, high=1.0, meaning="mask rate that was set")
register("train/masked_fraction", low=0.0, high=1.0, meaning="mask rate that was realised")
register("train/empty", unit="sequences", meaning="sequences that drew no prediction")
register("train/epoch", unit="epochs", meaning="epochs trained so far")
register("train/phase", meaning="number of the phase, from 1")
register("train/tokens", unit="tokens", meaning="tokens trained on so far, without padding")
register("train/predicted_tokens", unit="tokens", meaning="tokens predicted over the vocabulary")
register("train/seconds", unit="s", meaning="time of training so far, without evaluation")
register("train/flops", unit="FLOPs", meaning="cost of training so far, estimated")
_BUILT_IN = dict(METRICS)


def wilson(share: float, count: int) -> tuple[float, float]:
    """Return the 95% interval of a share of ``count`` independent answers (Wilson 1927)."""
    z = NormalDist().inv_cdf(0.975)
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * (share * (1 - share) / count + z * z / (4 * count**2)) ** 0.5
    return max(centre - half, 0.0), min(centre + half, 1.0)


def margin(share: float, count: int) -> float:
    """Return half the width of a share's 95% interval, see ``wilson``."""
    low, high = wilson(share, count)
    return (high - low) / 2


def accuracy_interval(name: str, value: float, answered: Mapping[str, int]) -> str:
    """Return an accuracy's 95% interval and number of examples; empty for other metrics."""
    if not answered.get(name) or math.isnan(value):
        return ""
    low, high = wilson(value, answered[name])
    return f"{low:.3f} to {high:.3f} ({answered[name]:,})"
