"""The statistics against scipy's and against simulations whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bertexp.compare.effects import find_effects
from bertexp.compare.statistics import equivalence_p, estimate, holm, power, seeds_needed
from bertexp.compare.verdicts import UNBOUNDED, Criterion, differences, judge
from bertexp.metrics import share, wilson

SIMULATIONS = 2000
SPREAD = 0.02


def by_seed(values: np.ndarray) -> dict[str, dict[tuple[str, ...], float]]:
    return {str(seed): {(): float(value)} for seed, value in enumerate(values)}


@settings(deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=12).filter(lambda x: np.ptp(x) > 1e-3))
def test_mean_interval_and_p_are_scipys(values: list[float]) -> None:
    found = estimate(values)
    test = stats.ttest_1samp(values, 0.0)
    interval = test.confidence_interval(0.95)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.deviation == pytest.approx(np.std(values, ddof=1))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p_value == pytest.approx(test.pvalue)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 10))
def test_pairs_are_tested_as_by_scipys_paired_t_test(seed: int, seeds: int) -> None:
    base, other = np.random.default_rng(seed).normal(size=(2, seeds))
    (found,) = differences({"a": by_seed(base), "b": by_seed(other)}, "a")
    assert found.p_value == pytest.approx(stats.ttest_rel(other, base).pvalue)
    assert found.mean == pytest.approx(np.mean(other - base))
    assert found.seeds == seeds


def test_one_value_has_no_interval_and_equal_ones_a_certain_mean() -> None:
    assert estimate([1.5]) == (1.5, None, None, None, None)
    assert estimate([2.0, 2.0]) == (2.0, 0.0, 2.0, 2.0, 0.0)
    assert estimate([0.0, 0.0]).p_value == 1.0


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_is_its_definition(p_values: list[float]) -> None:
    """The least level at which each is rejected, stepping down from the smallest (Holm 1979)."""
    corrected = holm({str(index): p for index, p in enumerate(p_values)})
    for index, p in enumerate(p_values):
        at_most = [
            (len(p_values) - sum(other < q for other in p_values)) * q for q in p_values if q <= p
        ]
        assert corrected[str(index)] == pytest.approx(min(1.0, max(at_most)))


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_interval_covers_the_true_difference(seeds: int) -> None:
    """Seeds have an effect of their own, shared by a pair, five times that of the rest."""
    generator = np.random.default_rng(seeds)
    shared = generator.normal(0, 5 * SPREAD, (SIMULATIONS, 1, seeds))
    values = shared + generator.normal(0, SPREAD, (SIMULATIONS, 2, seeds))
    values[:, 1] -= 0.01
    covered = 0
    for base, other in values:
        (found,) = differences({"a": by_seed(base), "b": by_seed(other)}, "a")
        assert found.low is not None and found.high is not None
        covered += found.low <= -0.01 <= found.high
    assert 0.93 <= covered / SIMULATIONS <= 0.97


def draw_grid(seeds: int) -> np.ndarray:
    """Return losses of 2 rates × 2 strategies by simulation, rate, strategy and seed.

    What a seed does to the effect of a rate is the same under both strategies: that is what
    makes two pairs of one seed tell hardly more than one.
    """
    generator = np.random.default_rng(10 + seeds)
    values = generator.normal(0, SPREAD / 4, (SIMULATIONS, 2, 2, seeds))
    values += generator.normal(0, SPREAD, (SIMULATIONS, 2, 1, seeds))
    values[:, 1] -= 0.03
    values[:, :, 1] += 0.01
    return values


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_interval_covers_where_other_keys_are_pooled(seeds: int) -> None:
    """Runs of one seed are averaged: as so many independent pairs they cover far too seldom."""
    values = draw_grid(seeds)
    covered = naive = 0
    for grid in values:
        pooled = {
            rate: {str(s): {("span",): grid[i, 0, s], ("token",): grid[i, 1, s]}
                   for s in range(seeds)}
            for i, rate in enumerate("ab")
        }  # fmt: skip
        (found,) = differences(pooled, "a")
        assert found.seeds == seeds and found.low is not None and found.high is not None
        covered += found.low <= -0.03 <= found.high
        each = estimate((grid[1] - grid[0]).ravel())
        assert each.low is not None and each.high is not None
        naive += each.low <= -0.03 <= each.high
    assert 0.93 <= covered / SIMULATIONS <= 0.97
    assert naive / SIMULATIONS < 0.9


def test_effects_of_a_grid_cover_and_are_contrasts_within_seeds() -> None:
    values = draw_grid(3)
    settings = {f"{r}{s}": {"m.rate": r, "m.strategy": s} for r in (1, 4) for s in "st"}
    true = {"rate=4": -0.03, "strategy=t": 0.01, "rate=4 × strategy=t": 0.0}
    covered = dict.fromkeys(true, 0)
    for grid in values:
        cells = dict(zip(settings, grid.reshape(4, 3), strict=True))
        found = find_effects(
            settings, {label: by_seed(cell) for label, cell in cells.items()}, "1s", UNBOUNDED
        )
        for effect in found:
            assert effect.low is not None and effect.high is not None
            covered[effect.setting] += effect.low <= true[effect.setting] <= effect.high
    assert all(0.93 <= count / SIMULATIONS <= 0.97 for count in covered.values()), covered
    gaps = (grid[1] - grid[0]).mean(0)
    assert found[0].p_value == pytest.approx(stats.ttest_1samp(gaps, 0).pvalue)
    crossed = grid[1, 1] - grid[0, 1] - grid[1, 0] + grid[0, 0]
    assert found[2].mean == pytest.approx(crossed.mean())


def test_an_interaction_is_neither_better_nor_worse_and_half_a_grid_has_no_effects() -> None:
    keys = [{"rate": r, "strategy": s} for r in (0.15, 0.3, 0.4) for s in ("span", "token")]
    settings = {f"{k['rate']}{k['strategy']}": k for k in keys}
    noise = np.array([0.0, 0.001, -0.001])
    values = {
        label: by_seed(2 + noise * n - (label == "0.4span")) for n, label in enumerate(settings)
    }
    found = find_effects(settings, values, "0.15token", UNBOUNDED)
    assert [(e.setting, e.verdict) for e in found] == [
        ("rate=0.3", "not resolved"),
        ("rate=0.4", "better"),
        ("strategy=span", "better"),
        ("rate=0.3 × strategy=span", "not resolved"),
        ("rate=0.4 × strategy=span", "resolved"),
    ]
    # A seed that lacks a cell has no contrast; the others have.
    del values["0.3span"]["2"]
    assert {e.seeds for e in find_effects(settings, values, "0.15token", UNBOUNDED)} == {2}
    del settings["0.3span"]
    assert find_effects(settings, values, "0.15token", UNBOUNDED) == ()
    one = {label: {"rate": k["rate"]} for label, k in settings.items()}
    assert find_effects(one, values, "0.15token", UNBOUNDED) == ()


@pytest.mark.parametrize(("mean", "seeds"), [(0.59, 2), (0.9, 3), (0.97, 2), (0.97, 3), (0.97, 5)])
def test_an_accuracys_interval_covers_and_stays_within_its_range(mean: float, seeds: int) -> None:
    generator = np.random.default_rng(seeds)
    values = generator.beta(50 * mean, 50 * (1 - mean), (SIMULATIONS, seeds))
    covered = cut = 0
    for drawn in values:
        found, plain = estimate(drawn, 0, 1), estimate(drawn)
        assert found.low is not None and found.high is not None
        assert plain.low is not None and plain.high is not None
        assert 0 <= found.low <= found.mean <= found.high <= 1
        covered += found.low <= mean <= found.high
        cut += max(plain.low, 0) <= mean <= min(plain.high, 1)
    assert 0.925 <= covered / SIMULATIONS <= 0.97
    assert covered >= cut


def test_bounds_are_kept_at_the_extremes_and_in_differences() -> None:
    assert estimate([1.0, 1.0], 0, 1)[2:4] == (1.0, 1.0)
    low, high = estimate([0.2, 0.45], 0, 1)[2:4]
    assert low is not None and high is not None and 0 < low < 0.325 < high < 1
    # A loss of two seeds is cut at 0, and is else the t interval.
    low, high = estimate([2.0, 3.0], 0)[2:4]
    assert (low, high) == (0.0, pytest.approx(2.5 + 12.7062 / 2))
    rows = {"a": by_seed(np.array([0.1, 0.6])), "b": by_seed(np.array([0.5, 0.5]))}
    (found,) = differences(rows, "a", share())
    assert found.low is not None and found.high is not None
    assert -1 < found.low < found.mean < found.high < 1
    # Its p and its interval agree on whether 0 may be the difference.
    generator = np.random.default_rng(0)
    for gaps in generator.uniform(-0.3, 0.9, (500, 3)):
        e = estimate(gaps, -1, 1)
        assert e.low is not None and e.high is not None and e.p_value is not None
        assert (e.p_value > 0.05) == (e.low <= 0 <= e.high)


@pytest.mark.parametrize(("right", "count"), [(46, 78), (0, 20), (20, 20), (1, 1)])
def test_a_shares_interval_is_wilsons(right: int, count: int) -> None:
    interval = stats.binomtest(right, count).proportion_ci(method="wilson")
    assert wilson(right / count, count) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_where_there_is_no_difference_one_is_hardly_ever_called_resolved(seeds: int) -> None:
    """Four settings equal to the baseline: a verdict on any of them is a mistake."""
    generator = np.random.default_rng(100 + seeds)
    values = generator.normal(0, SPREAD, (SIMULATIONS, 5, seeds))
    mistaken = sum(
        any(
            d.verdict in ("better", "worse")
            for d in differences(dict(zip("abcde", map(by_seed, rows), strict=True)), "a")
        )
        for rows in values
    )
    assert mistaken / SIMULATIONS <= 0.05


@pytest.mark.parametrize(("seeds", "effect"), [(3, 0.06), (5, 0.03), (10, 0.02), (30, 0.01)])
def test_power_is_that_of_simulated_studies(seeds: int, effect: float) -> None:
    values = np.random.default_rng(seeds).normal(effect, SPREAD, (20_000, seeds))
    found = stats.ttest_1samp(values, 0.0, axis=1)
    share = np.mean((found.pvalue <= 0.05) & (found.statistic > 0))
    assert power(seeds, effect, SPREAD) == pytest.approx(share, abs=0.012)


@settings(deadline=None)
@given(st.floats(0.05, 5), st.sampled_from([0.05, 0.0125]))
def test_the_seeds_needed_are_the_fewest_that_suffice(ratio: float, alpha: float) -> None:
    seeds = seeds_needed(-ratio * SPREAD, SPREAD, alpha)
    assert seeds is not None
    assert power(seeds, ratio * SPREAD, SPREAD, alpha) >= 0.8
    assert seeds == 2 or power(seeds - 1, ratio * SPREAD, SPREAD, alpha) < 0.8


def test_no_number_of_seeds_is_named_where_none_can_be() -> None:
    assert seeds_needed(0.0, SPREAD) is None
    assert seeds_needed(1e-5, 1.0) is None
    # At an infinite number the normal distribution's: (1.96 + 0.84)² / ratio².
    assert seeds_needed(0.05, 1.0) == pytest.approx(((1.95996 + 0.84162) / 0.05) ** 2, rel=0.001)


def test_verdicts_follow_the_corrected_p_and_the_metrics_direction() -> None:
    noise = np.array([-1.0, 0.0, 1.0])
    values = {
        "base": by_seed(np.zeros(3)),
        "far": by_seed(-10 + 0.1 * noise),
        "near": by_seed(-10 + 3 * noise),
        "same": by_seed(0.1 + noise),
    }
    found = {d.setting: d for d in differences(values, "base")}
    p_near = found["near"].p_value
    assert p_near is not None and 0.02 < p_near < 0.05
    assert found["near"].p_corrected == pytest.approx(2 * p_near)
    assert [found[name].verdict for name in ("far", "near", "same")] == [
        *("better", "not resolved", "not resolved"),
    ]
    assert found["far"].seeds_needed is None
    # More seeds than were tried.
    assert found["near"].seeds_needed == seeds_needed(-10, 3, 0.025, tried=3)
    assert (found["near"].seeds_needed or 0) > 3
    (alone,) = differences({name: values[name] for name in ("base", "near")}, "base")
    assert (alone.verdict, alone.seeds_needed) == ("better", None)
    (higher,) = differences({name: values[name] for name in ("base", "near")}, "base", share())
    assert higher.verdict == "worse"


def test_only_pairs_count() -> None:
    values = {
        "base": {"0": {(): 1.0}, "1": {(): 2.0}, "7": {(): 50.0}},
        "some": {"0": {(): 1.1}, "1": {(): 2.3}, "8": {(): -50.0}},
        "one": {"1": {(): 1.0}},
        "none": {"9": {(): 3.0}},
    }
    found = {d.setting: d for d in differences(values, "base")}
    assert (found["some"].seeds, found["some"].mean) == (2, pytest.approx(0.2))
    assert (found["one"].verdict, found["one"].mean, found["one"].low) == ("one seed", -1.0, None)
    assert (found["none"].seeds, found["none"].verdict) == (0, "not resolved")
    assert found["none"].mean == pytest.approx(3 - 53 / 3)
    assert not math.isnan(found["none"].mean) and found["none"].p_corrected is None


@settings(deadline=None)
@given(
    st.lists(st.floats(-5, 5), min_size=2, max_size=12).filter(lambda x: np.ptp(x) > 1e-3),
    st.floats(0.01, 9),
)
def test_equivalence_is_two_one_sided_tests(values: list[float], margin: float) -> None:
    above = stats.ttest_1samp(values, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(values, margin, alternative="less").pvalue
    assert equivalence_p(values, margin) == pytest.approx(max(above, below), abs=1e-12)
    (found,) = judge({"a": values}, UNBOUNDED, criterion=Criterion(margin))
    assert (found.verdict == "same") == (max(above, below) <= 0.05)


def test_settings_are_wrongly_called_the_same_in_at_most_one_of_twenty_studies() -> None:
    """All four differ from the baseline by the margin, or by more."""
    generator = np.random.default_rng(5)
    true = np.array([0.01, -0.01, 0.01, 0.03])
    wrong = 0
    for gaps in true[:, None] + generator.normal(0, 0.004, (SIMULATIONS, 4, 4)):
        found = judge(
            dict(zip("abcd", gaps.tolist(), strict=True)), UNBOUNDED, criterion=Criterion(0.01)
        )
        wrong += any(d.verdict == "same" for d in found)
    assert wrong / SIMULATIONS <= 0.05 + 2 * (0.05 * 0.95 / SIMULATIONS) ** 0.5
