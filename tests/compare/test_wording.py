"""The sentences of a comparison, and the digits of its numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bertexp.compare import wording
from bertexp.compare.results import Difference, ExampleDifference, Results

Simulate = Callable[..., Results]
TWO = {"masking.prob": [0.4, 0.15]}


def difference(mean: float, half: float | None, verdict: str, **changes: Any) -> Difference:
    low, high = (None, None) if half is None else (mean - half, mean + half)
    found = Difference("masking.prob=0.4", 3, mean, low, high, 0.01, 0.02, verdict, None)
    return replace(found, **changes)


@pytest.mark.parametrize(
    ("found", "lower_is_better", "sentence"),
    [
        (
            difference(-0.05, 0.03, "better"),
            True,
            "masking.prob=0.4 is better than 0.15 by 0.050 nats (95% 0.020 to 0.080, 3 seeds).",
        ),
        (
            difference(0.05, 0.03, "better"),
            False,
            "masking.prob=0.4 is better than 0.15 by 0.050 nats (95% 0.020 to 0.080, 3 seeds).",
        ),
        (
            difference(0.5, 0.3, "worse"),
            True,
            "masking.prob=0.4 is worse than 0.15 by 0.50 nats (95% 0.20 to 0.80, 3 seeds).",
        ),
        (
            difference(-0.02, 0.04, "not resolved", seeds_needed=7),
            True,
            "Not resolved: masking.prob=0.4 is 0.020 nats below 0.15 "
            "(95% −0.060 to +0.020, 3 seeds); about 7 seeds would be needed.",
        ),
        (
            difference(0.02, 0.01, "not resolved", p_corrected=0.08),
            True,
            "Not resolved: masking.prob=0.4 is 0.020 nats above 0.15 "
            "(95% +0.010 to +0.030, 3 seeds, p 0.08 after correction).",
        ),
        (
            difference(0.02, None, "one seed"),
            True,
            "One seed cannot tell: masking.prob=0.4 is 0.020 nats above 0.15, which may be chance.",
        ),
        (
            difference(0.02, None, "not resolved", seeds=0),
            True,
            "Not resolved: masking.prob=0.4 is 0.020 nats above 0.15, "
            "but they have no seed in common.",
        ),
        (
            difference(0.0, 0.0, "not resolved"),
            True,
            "masking.prob=0.4 and 0.15 have equal results (3 seeds).",
        ),
        (
            difference(0.001, 0.004, "same"),
            True,
            "masking.prob=0.4 and 0.15 are the same to within 0.01 nats "
            "(95% −0.0030 to +0.0050, 3 seeds).",
        ),
    ],
)
def test_the_headline_is_the_answer(
    simulate: Simulate, found: Difference, lower_is_better: bool, sentence: str
) -> None:
    comparison = simulate(TWO, differences=(found,), lower_is_better=lower_is_better, margin=0.01)
    assert wording.headline(comparison) == sentence


@pytest.mark.parametrize("anytime", [False, True])
def test_intervals_for_one_look_are_told_from_those_for_any_number(
    simulate: Simulate, anytime: bool
) -> None:
    text = wording.legend(simulate(TWO, anytime=anytime))
    assert ("Intervals of means are Student's t and hold for a single look" in text) == anytime
    assert ("however often one looks" in text) == anytime


def test_the_headline_is_about_the_best(simulate: Simulate) -> None:
    found = [
        difference(0.3, 0.1, "worse", setting="a"),
        difference(-0.1, 0.05, "better", setting="b"),
        difference(-0.2, 0.05, "better", setting="c"),
        difference(-0.9, 1.5, "not resolved", setting="d"),
        difference(0.0, 0.0, "not resolved", setting="e"),
    ]
    comparison = simulate(TWO, differences=tuple(found))
    assert wording.headline(comparison).startswith("c is better than 0.15 by 0.200 nats")
    assert wording.circumstances(comparison) == (
        "eval/loss (nats) after 1M predicted tokens; 2 settings, 6 runs; lower is better."
    )


def test_what_cannot_be_compared_is_not(simulate: Simulate) -> None:
    unranked = simulate(TWO, ranked=False)
    assert wording.headline(unranked) == "Not ranked: these runs are not comparable."
    words = wording.headline(unranked) + wording.circumstances(unranked)
    assert not any(word in words for word in ("better", "worse", "best"))
    alone = wording.headline(simulate({}))
    assert alone.startswith("all runs: eval/loss is 2.40")
    assert alone.endswith("3 seeds). There is nothing to compare it with.")
    assert "no baseline" in wording.headline(simulate(TWO, baseline=None, differences=()))
    empty = tuple(replace(s, mean=None) for s in simulate(TWO).settings)
    assert wording.headline(simulate(TWO, settings=empty)) == "No run has eval/loss yet."


def test_digits_follow_the_spread(simulate: Simulate) -> None:
    assert wording.decimals(simulate(spread=0.0012)) == 5
    assert wording.decimals(simulate(spread=1.2)) == 2
    assert wording.decimals(simulate(seeds=1)) == 2
    assert wording.decimals(simulate({}, seeds=1)) == 3


def test_settings_that_differ_in_the_middle_are_told_apart(simulate: Simulate) -> None:
    files = [f"/data/{'very/' * 9}{name}/{'long/' * 9}text.txt" for name in ("one", "two")]
    comparison = simulate({"dataset.files": files, "masking.prob": [0.15]})
    names = wording.short_names(comparison)
    assert len(set(names.values())) == 2
    first, second = names.values()
    assert first in wording.headline(comparison) and second in wording.headline(comparison)


def test_two_runs_say_what_they_are_about() -> None:
    found = ExampleDifference("a=1", "a=2", 2048, 1, -0.0123, -0.02, -0.0046)
    assert wording.example_by_example(found) == (
        "Example by example, a=1 minus a=2 is −0.0123 nats (95% −0.0200 to −0.0046), from 2,048 "
        "examples of 1 document: this is about these two models, not these two settings."
    )
    alone = wording.example_by_example(replace(found, low=None, high=None))
    assert "is −0.012 nats, from" in alone
