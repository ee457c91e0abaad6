"""What encoders can do at the end of their runs, beside what is compared."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence

from bertexp.compare.comparable import OWN_TEXTS, refusals
from bertexp.compare.results import Ability, Comparison, Setting, Yardstick
from bertexp.compare.runs import Run
from bertexp.compare.settings import Grouping
from bertexp.compare.statistics import estimate
from bertexp.console import MISSING, number
from bertexp.metrics import describe, margin

PROBE = "eval/probe/"
# A figure that is judged by how likely answers are and not by how right.
NOT_SHOWN = "loss"
# Of a share of right answers: a thousandth is less than any of them can tell.
DECIMALS = 3


def find_abilities(
    runs: Sequence[Run], grouping: Grouping, settings: Sequence[Setting]
) -> tuple[Ability, ...]:
    """Return what each setting's encoders can do, metric by metric, the settings in their order.

    Metrics that runs were asked differently about are left out, and runs that have not finished.
    """
    finished = [run for run in runs if run.status == "finished"]
    found = []
    for name in dict.fromkeys(name for run in finished for name in _names(run)):
        having = [run for run in finished if name in run.metrics]
        if refusals(having, name):
            continue
        known = describe(name)
        for setting in settings:
            by_seed: dict[str, list[float]] = defaultdict(list)
            for run in having:
                if grouping.label(run) == setting.label:
                    by_seed[grouping.unit(run)].append(run.metrics[name])
            means = [statistics.fmean(values) for values in by_seed.values()]
            if means:
                e = estimate(means, known.low, known.high)
                spread = (statistics.median(means), min(means), max(means))
                told = (len(means), e.mean, e.low, e.high, *spread)
                found.append(Ability(name, setting.label, *told))
    return tuple(found)


def find_yardsticks(runs: Sequence[Run], abilities: Sequence[Ability]) -> tuple[Yardstick, ...]:
    """Return those of the abilities that are probes, as any of the runs has measured them."""
    asked = {ability.metric for ability in abilities}
    found = {
        metric: Yardstick(metric, one["majority"], one["tfidf"])
        for run in runs
        for one in run.summary.get("probes", ())
        if (metric := PROBE + one["name"]) in asked
    }
    return tuple(found.values())


def yardstick_rows(comparison: Comparison, metrics: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return what a table of abilities has below: a name, and text for each metric."""
    known = {one.metric: one for one in comparison.yardsticks}
    kinds = {"majority": "majority", "TF-IDF": "tfidf"}
    rows = [
        (name, [number(getattr(known.get(m), kind, None), DECIMALS) for m in metrics])
        for name, kind in kinds.items()
        if not known.keys().isdisjoint(metrics)
    ]
    counts = [comparison.answered.get(metric) for metric in metrics]
    if any(counts):
        rows.append(("examples", [f"{count:,}" if count else MISSING for count in counts]))
        halves = [_half(comparison, metric) for metric in metrics]
        rows.append(("± of one run", [number(half, DECIMALS) for half in halves]))
    return rows


def _half(comparison: Comparison, metric: str) -> float | None:
    """Return to what an accuracy of one run is known, at the mean of all settings."""
    means = [one.mean for one in comparison.abilities if one.metric == metric]
    count = comparison.answered.get(metric)
    if not count or not means:
        return None
    return margin(statistics.fmean(means), count)


def by_metric(abilities: Sequence[Ability]) -> dict[str, dict[str, Ability]]:
    """Return the abilities by metric and by the label of their setting."""
    found: dict[str, dict[str, Ability]] = defaultdict(dict)
    for ability in abilities:
        found[ability.metric][ability.setting] = ability
    return dict(found)


def is_probe(metric: str) -> bool:
    """Return whether a metric is a probe's; else models were fine-tuned for it."""
    return metric.startswith(PROBE)


def short(metric: str) -> str:
    """Return what a metric is called in a table's head: ``probe/package``."""
    return metric.removeprefix("eval/")


def explained(comparison: Comparison) -> str:
    """Return what the figures are, in a sentence for each kind there is."""
    kinds = {is_probe(ability.metric) for ability in comparison.abilities}
    probes = (
        "Probes: accuracy of a linear classifier on the frozen encoder's features, beside the "
        "majority class and the same classifier on the words alone (TF-IDF)."
    )
    finetuned = (
        "Fine-tuned: on the task's validation data; a pre-trained run counts with the median of "
        "its fine-tuned ones."
    )
    counted = (
        "± of one run: what an accuracy on so many examples is known to (Wilson, 95%); the "
        "others are over seeds, on the same examples."
    )
    is_counted = any(ability.metric in comparison.answered for ability in comparison.abilities)
    parts = [probes] * (True in kinds) + [finetuned] * (False in kinds) + [counted] * is_counted
    return " ".join(parts)


def _names(run: Run) -> list[str]:
    """Return the metrics of a run that say what its encoder can do."""
    return [
        name
        for name in run.metrics
        if name.startswith((*OWN_TEXTS, *run.judged))
        and name.partition("@")[0].rpartition("/")[2] != NOT_SHOWN
    ]
