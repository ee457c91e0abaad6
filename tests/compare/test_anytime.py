"""Inference at any time: simulations whose truth is known, with a look after every seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bertexp.compare import anytime
from bertexp.compare.statistics import seeds_needed
from bertexp.compare.verdicts import UNBOUNDED, Criterion, judge

STUDIES, SEEDS = 2000, 52
ERROR = 0.05 + 2 * (0.05 * 0.95 / STUDIES) ** 0.5
ANYTIME = Criterion(anytime=True)
values = st.lists(st.floats(-5, 5), min_size=9, max_size=20).filter(lambda x: np.std(x) > 1e-2)


def draw(kind: str, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return results of runs; those on a plateau are 20 standard deviations above the others."""
    if kind == "skewed":
        return generator.lognormal(0, 1, shape)
    share = {"normal": 0.0, "few on a plateau": 0.1, "half on a plateau": 0.5}[kind]
    return generator.normal(0, 1, shape) + 20.0 * (generator.random(shape) < share)


def ever_excluded(gaps: np.ndarray, centre: float = 0.0) -> np.ndarray:
    """Return whether a look at each study's gaps (study, setting, seed) ever excludes a centre."""
    settings = gaps.shape[1]
    return (anytime.log_evidence(gaps - centre) >= math.log(settings / 0.05)).any((1, 2))


@pytest.mark.parametrize("kind", ["normal", "skewed", "few on a plateau", "half on a plateau"])
@pytest.mark.parametrize("compared", [2, 3, 6])
def test_null_studies_hardly_ever_declare_anything(kind: str, compared: int) -> None:
    generator = np.random.default_rng(compared)
    results = draw(kind, generator, (STUDIES, compared, SEEDS))
    results += generator.normal(0, 5, (STUDIES, 1, SEEDS))  # what all runs of a seed share
    assert ever_excluded(results[:, 1:] - results[:, :1]).mean() <= ERROR


def test_a_fair_coin_is_no_evidence() -> None:
    """The hardest symmetric differences: with three alike, a t test is certain."""
    coins = np.random.default_rng(0).choice([-1.0, 1.0], (STUDIES, 5, SEEDS))
    assert 0.01 <= ever_excluded(coins).mean() <= ERROR
    t_squared = 3 * coins[..., :3].mean(-1) ** 2 / (coins[..., :3].var(-1) + 1e-9)
    assert (t_squared > 100).any(1).mean() > 0.5


def test_the_margin_itself_is_hardly_ever_called_the_same() -> None:
    gaps = 0.3 + np.random.default_rng(1).normal(0, 1, (STUDIES, 5, SEEDS))
    assert ever_excluded(gaps, 0.3).mean() <= ERROR


@pytest.mark.parametrize(("effect", "factor"), [(0.5, 1.4), (1.0, 1.6), (2.0, 2.0)])
def test_differences_are_found_with_few_more_seeds_than_by_one_look(
    effect: float, factor: float
) -> None:
    """Mean seeds to a verdict, beside a t test of the effect with a power of 80%."""
    gaps = np.random.default_rng(2).normal(effect, 1, (STUDIES, 200))
    found = anytime.log_evidence(gaps) >= math.log(1 / 0.05)
    taken = np.where(found.any(-1), found.argmax(-1) + 1, 200)
    fixed = seeds_needed(effect, 1.0)
    assert fixed and taken.mean() <= factor * fixed
    right = gaps.cumsum(-1)[np.arange(STUDIES), taken - 1] > 0
    assert right.mean() >= 0.99


@settings(deadline=None)
@given(values, st.floats(-3, 3), st.floats(0.1, 10))
def test_intervals_follow_shift_and_scale(found: list[float], shift: float, scale: float) -> None:
    ends = anytime.interval(found, 0.05)
    moved = anytime.interval([scale * x + shift for x in found], 0.05)
    assert (ends is None) == (moved is None)
    if ends and moved:
        assert moved == pytest.approx([scale * end + shift for end in ends], rel=1e-3, abs=1e-4)


@settings(deadline=None)
@given(values)
# Close to 4, which the first value is, there is less evidence than farther inside.
@example([4.0, 4.5, *[0.0] * 12, 1.0])
def test_an_interval_has_every_centre_without_enough_evidence(found: list[float]) -> None:
    if not (ends := anytime.interval(found, 0.05)):
        return
    width = ends[1] - ends[0]
    centres = np.linspace(ends[0] - 3 * width, ends[1] + 3 * width, 301)
    evidence = anytime.log_evidence(np.array(found) - centres[:, None])[:, -1]
    outside = (centres < ends[0] - 1e-6 * width) | (centres > ends[1] + 1e-6 * width)
    assert (evidence[outside] >= math.log(20) - 1e-6).all()


def test_verdicts_are_those_of_the_intervals() -> None:
    generator = np.random.default_rng(3)
    gaps = {
        "worse": generator.normal(0.03, 0.01, 12).tolist(),
        "same": generator.normal(0.0, 0.002, 12).tolist(),
        "few": [0.03] * 6,
        "equal": [0.0] * 12,
        "open": generator.normal(0.005, 0.02, 12).tolist(),
    }
    found = {d.setting: d for d in judge(gaps, UNBOUNDED, criterion=Criterion(0.01, anytime=True))}
    verdicts = {name: d.verdict for name, d in found.items()}
    assert verdicts == {
        "worse": "worse",
        "same": "same",
        "few": "not resolved",
        "equal": "same",
        "open": "not resolved",
    }
    assert (found["few"].low, found["few"].seeds_needed) == (None, anytime.fewest_seeds(0.01))
    assert found["open"].seeds_needed and found["open"].seeds_needed > 12
    (again,) = judge({"equal": gaps["equal"]}, UNBOUNDED, criterion=ANYTIME)
    assert again.verdict == "same", "whatever the margin"
