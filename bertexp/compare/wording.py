"""A comparison in words: its answer in a sentence, the meaning of its figures, and their digits."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bertexp.compare.abilities import explained, uncertainty
from bertexp.compare.budgets import spent
from bertexp.compare.results import Difference, ExampleDifference, Results, Setting
from bertexp.console import MISSING, number, plural, shortened_apart


def p_value(value: float | None) -> str:
    if value is None:
        return MISSING
    return "< 0.001" if value < 0.001 else f"{value:.2g}"


def decimals(comparison: Results) -> int:
    """Return how many decimals the metric deserves: two digits of its spread over seeds.

    Where no setting has two seeds, two digits of the range of the means.
    """
    spreads = sorted(s.deviation for s in comparison.settings if s.deviation)
    means = [s.mean for s in comparison.settings if s.mean is not None]
    if spreads:
        return two_digits(spreads[len(spreads) // 2])
    return two_digits(max(means, default=0.0) - min(means, default=0.0))


def verdict(difference: Difference) -> str:
    return "equal" if is_equal(difference) else difference.verdict


def is_equal(difference: Difference) -> bool:
    """Return whether every pair of runs has exactly the same result."""
    same = difference.mean == 0 and not (difference.low or difference.high)
    return same and difference.seeds > 0


def spread(found: Difference | ExampleDifference) -> float:
    """Return half the width of a difference's interval, or its size where it has none."""
    if found.low is None or found.high is None:
        return abs(found.mean)
    return (found.high - found.low) / 2


def two_digits(spread: float) -> int:
    """Return the decimals that show two digits of a number; three of nothing."""
    return min(max(1 - math.floor(math.log10(spread)), 0), 6) if spread else 3


def short_names(comparison: Results) -> dict[str, str]:
    return shortened_apart(setting.label for setting in comparison.settings)


def within(comparison: Results) -> str:
    return f"to within {comparison.margin:g} {comparison.unit}".rstrip()


def correction(comparison: Results, count: int) -> str:
    """Return how verdicts on so many differences were corrected; starts with a space, or empty."""
    together = f" for all {count} together" if count > 1 else ""
    if comparison.anytime:
        return f"{together}, however often one looks (Vovk and Wang 2024)"
    return together and f"{together} (Holm)"


def intervals_of_means(comparison: Results) -> str:
    """Return how intervals of means differ from those of differences; empty if they do not."""
    if not comparison.anytime:
        return ""
    return (
        "Intervals of means are Student's t and hold for a single look, those of differences "
        "however often one looks."
    )


def headline(comparison: Results) -> str:
    settings = [s for s in comparison.settings if s.mean is not None]
    if not settings:
        return f"No run has {comparison.metric} yet."
    if not comparison.ranked:
        return "Not ranked: these runs are not comparable."
    if len(settings) == 1:
        return f"{_average(settings[0], comparison)}. There is nothing to compare it with."
    decisive = _decisive(comparison)
    if decisive is None:
        return f"{_average(settings[0], comparison)}. There is no baseline to test it against."
    return _sentence(decisive, comparison)


def circumstances(comparison: Results) -> str:
    budget = comparison.budget
    where = "at the end of each run" if budget is None else f"after {spent(comparison.at, budget)}"
    parts = [
        f"{comparison.axis} {where}",
        f"{plural(len(comparison.settings), 'setting')}, {plural(len(comparison.runs), 'run')}",
    ]
    if comparison.ranked:
        parts.append("lower is better" if comparison.lower_is_better else "higher is better")
    if known := accuracy_of_one_run(comparison):
        parts.append(known)
    return f"{'; '.join(parts)}."


def legend(comparison: Results) -> str:
    """Return what the figures in the tables mean."""

    def together(found: Sequence[Difference]) -> str:
        return correction(comparison, len(found))

    parts = []
    if comparison.budget is not None:
        where = spent(comparison.at, comparison.budget)
        parts.append(f"Every run at {where}, on straight lines between evaluations.")
    if any(setting.high is not None for setting in comparison.settings):
        parts.append("± or (low to high): 95% interval over seeds.")
        parts.append(intervals_of_means(comparison))
    if known := accuracy_of_one_run(comparison):
        parts.append(f"{known[0].upper()}{known[1:]}.")
    if comparison.differences:
        parts.append(
            f"Differences from {comparison.baseline} in pairs with the same seed; verdicts at "
            f"5%{together(comparison.differences)}."
        )
        if comparison.margin:
            parts.append(f"Same: {within(comparison)}.")
    if comparison.effects:
        parts.append(
            "Effects: a key's value against the baseline's, averaged over the other keys; ×: what "
            f"two change together beyond that{together(comparison.effects)}."
        )
    if any(d.seeds_needed for d in (*comparison.differences, *comparison.effects)):
        power = "" if comparison.anytime else "for a power of 80%, "
        parts.append(f"Seeds needed: {power}if difference and spread are as seen.")
    if comparison.abilities:
        parts.append(explained(comparison))
    return " ".join(filter(None, parts))


def accuracy_of_one_run(comparison: Results) -> str:
    """Return how exactly an accuracy's number of examples lets one run's be known; else nothing."""
    count = comparison.answered.get(comparison.metric)
    half = uncertainty(comparison, comparison.metric, [s.mean for s in comparison.settings])
    if half is None:
        return ""
    return f"one run's accuracy on {count:,} examples is known to ± {number(half)} (Wilson, 95%)"


def example_by_example(found: ExampleDifference) -> str:
    low, high = found.low, found.high
    digits = two_digits(spread(found))
    bounds = [number(bound, digits, signed=True) for bound in (low, high)]
    known = "" if MISSING in bounds else f" (95% {' to '.join(bounds)})"
    names = shortened_apart([found.setting, found.baseline])
    return (
        f"Example by example, {names[found.setting]} minus {names[found.baseline]} is "
        f"{number(found.mean, digits, signed=True)} nats{known}, from {found.examples:,} examples "
        f"of {plural(found.documents, 'document')}: this is about {found.scope}."
    )


def _average(setting: Setting, comparison: Results) -> str:
    value = f"{number(setting.mean, decimals(comparison))} {comparison.unit}".rstrip()
    between = _interval(setting.low, setting.high, setting.seeds, decimals(comparison))
    return f"{short_names(comparison)[setting.label]}: {comparison.metric} is {value} ({between})"


def _decisive(comparison: Results) -> Difference | None:
    """Return the difference that matters most: the best of those that are resolved as better."""
    sign = 1 if comparison.lower_is_better else -1
    order = ("better", "not resolved", "one seed", "same", "worse")
    return min(
        comparison.differences,
        key=lambda d: (order.index(d.verdict), sign * d.mean),
        default=None,
    )


def _sentence(difference: Difference, comparison: Results) -> str:
    setting, baseline = _two_names(difference.setting, comparison)
    low, high, mean = difference.low, difference.high, difference.mean
    digits = two_digits(spread(difference))
    size = f"{number(abs(mean), digits)} {comparison.unit}".rstrip()
    if difference.verdict in ("better", "worse"):
        # The size of a gain or loss has no sign, and so has its interval.
        if mean < 0 and low is not None and high is not None:
            low, high = -high, -low
        between = _interval(low, high, difference.seeds, digits)
        return f"{setting} is {difference.verdict} than {baseline} by {size} ({between})."
    if is_equal(difference):
        return f"{setting} and {baseline} have equal results ({plural(difference.seeds, 'seed')})."
    if difference.verdict == "same":
        known = _interval(low, high, difference.seeds, digits, signed=True)
        return f"{setting} and {baseline} are the same {within(comparison)} ({known})."
    apart = f"{size} {'below' if mean < 0 else 'above'} {baseline}"
    if difference.verdict == "one seed":
        return f"One seed cannot tell: {setting} is {apart}, which may be chance."
    if not difference.seeds:
        return f"Not resolved: {setting} is {apart}, but they have no seed in common."
    known = _interval(low, high, difference.seeds, digits, signed=True)
    if low is not None and high is not None and low * high > 0:
        known += f", p {p_value(difference.p_corrected)} after correction"
    needed = difference.seeds_needed
    more = f"; about {plural(needed, 'seed')} would be needed" if needed else ""
    return f"Not resolved: {setting} is {apart} ({known}){more}."


def _two_names(label: str, comparison: Results) -> tuple[str, str]:
    names = short_names(comparison)
    baseline = names.get(comparison.baseline or "", comparison.baseline or "")
    if len(comparison.keys) == 1:
        baseline = baseline.removeprefix(f"{comparison.heading}=")
    return names.get(label, label), baseline


def _interval(
    low: float | None, high: float | None, seeds: int, digits: int, *, signed: bool = False
) -> str:
    if low is None or high is None:
        return plural(seeds, "seed")
    first, last = (number(bound, digits, signed=signed) for bound in (low, high))
    return f"95% {first} to {last}, {plural(seeds, 'seed')}"
