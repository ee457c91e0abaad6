"""The abilities of encoders at the end of their runs, beside the compared metric."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from bertexp.compare.comparable import OWN_TEXTS, obstacles
from bertexp.compare.results import Ability, Results, Yardstick
from bertexp.compare.runs import Record
from bertexp.compare.statistics import estimate
from bertexp.console import MISSING, number
from bertexp.metrics import describe, margin

PROBE, PHENOMENON = "eval/probe/", "eval/minimal_pairs/"
# For accuracies: their uncertainty is always larger than a thousandth.
DECIMALS = 3


def find_abilities(runs: Sequence[Record], labels: Sequence[str]) -> tuple[Ability, ...]:
    """Return the abilities of each setting's encoders by metric, with settings in order.

    Metrics that runs measured on different examples are left out, and runs that have not finished.
    """
    finished = [run for run in runs if run.status == "finished"]
    found = []
    for name in dict.fromkeys(name for run in finished for name in _names(run)):
        having = [run for run in finished if name in run.metrics]
        if obstacles(having, name):
            continue
        row = describe(name)
        for label in labels:
            by_seed: dict[str, list[float]] = defaultdict(list)
            for run in having:
                if run.setting == label:
                    by_seed[run.drawn_with].append(run.metrics[name])
            means = [statistics.fmean(values) for values in by_seed.values()]
            if means:
                mean, _, low, high, _ = estimate(means, row.low, row.high)
                spread = (statistics.median(means), min(means), max(means))
                found.append(Ability(name, label, len(means), mean, low, high, *spread))
    return tuple(found)


def _names(run: Record) -> list[str]:
    """Return the metrics that are marked as abilities, and accuracies of fine-tuned models."""
    of_labels = (*OWN_TEXTS, *run.task_metrics)
    rows = {name: describe(name) for name in run.metrics}
    return [
        name
        for name, row in rows.items()
        if row.comparison or (name.startswith(of_labels) and math.isfinite(row.high))
    ]


def find_yardsticks(runs: Sequence[Record], abilities: Sequence[Ability]) -> tuple[Yardstick, ...]:
    known = {ability.metric for ability in abilities}
    probed = defaultdict(list)
    for run in runs:
        for one in run.summary.get("probes", ()):
            probed[PROBE + one["name"]].append(one)

    def mean(ones: Sequence[dict[str, Any]], name: str) -> float:
        return statistics.fmean(one[name] for one in ones)

    return tuple(
        Yardstick(
            metric,
            *(ones[0]["majority"], ones[0]["tfidf"]),
            *(mean(ones, "untrained"), mean(ones, "control")),
        )
        for metric, ones in probed.items()
        if metric in known
    )


def yardstick_rows(comparison: Results, metrics: Sequence[str]) -> list[tuple[str, list[str]]]:
    known = {one.metric: one for one in comparison.yardsticks}
    kinds = {
        "untrained": "untrained",
        "random labels": "control",
        "majority": "majority",
        "TF-IDF": "tfidf",
    }
    rows = []
    for name, kind in kinds.items():
        values = [getattr(known.get(metric), kind, None) for metric in metrics]
        if any(value is not None for value in values):
            rows.append((name, [number(value, DECIMALS) for value in values]))
    counts = [comparison.answered.get(metric) for metric in metrics]
    if any(counts):
        rows.append(("examples", [f"{count:,}" if count else MISSING for count in counts]))
        means = [[a.mean for a in comparison.abilities if a.metric == m] for m in metrics]
        halves = [uncertainty(comparison, *each) for each in zip(metrics, means, strict=True)]
        rows.append(("± of one run", [number(half, DECIMALS) for half in halves]))
    return rows


def uncertainty(comparison: Results, metric: str, means: Sequence[float | None]) -> float | None:
    """Return the uncertainty of an accuracy of one run, at the mean of all settings."""
    values = [mean for mean in means if mean is not None]
    count = comparison.answered.get(metric)
    return margin(statistics.fmean(values), count) if count and values else None


def is_finetuned(metric: str) -> bool:
    return not describe(metric).comparison


def explained(comparison: Results) -> str:
    metrics = dict.fromkeys(ability.metric for ability in comparison.abilities)
    rows = {metric: describe(metric) for metric in metrics}
    parts = []
    if any(metric.startswith(PROBE) for metric in metrics):
        parts.append(
            "Probes: accuracy of a linear classifier on the frozen encoder's features, beside the "
            "same on encoders with initial weights and with random labels (means over the runs), "
            "the majority class and the same classifier on the words alone (TF-IDF)."
        )
    if not all(row.comparison for row in rows.values()):
        parts.append(
            "Fine-tuned: on the task's validation data; a pre-trained run counts with the median "
            "of its fine-tuned ones."
        )
    parts += [
        f"{metric}: {row.meaning}."
        for metric, row in rows.items()
        if row.comparison and row.meaning and not metric.startswith((PROBE, PHENOMENON))
    ]
    if not comparison.answered.keys().isdisjoint(metrics):
        parts.append(
            "± of one run: what an accuracy on so many examples is known to (Wilson, 95%); the "
            "others are over seeds, on the same examples."
        )
    return " ".join(parts)
