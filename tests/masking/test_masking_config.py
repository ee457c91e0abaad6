"""``masking.*``: the ready options, and one line for every mistake."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bertexp.config import Config, conf_dir
from bertexp.experiment.facts import phase_facts
from bertexp.validation import UserError

OPTIONS = sorted(path.stem for path in (conf_dir() / "masking").glob("*.yaml"))


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_says_where_it_is_from(
    experiment_config: Callable[..., Config], option: str
) -> None:
    masking = experiment_config(f"masking={option}").masking
    assert 0 < (masking.rate(0) or 0.5) < 1
    assert (conf_dir() / "masking" / f"{option}.yaml").read_text().startswith("# ")


def test_the_options_are_what_their_sources_say(experiment_config: Callable[..., Config]) -> None:
    found = {option: experiment_config(f"masking={option}").masking for option in OPTIONS}
    assert found["bert"].prob == 0.15
    assert all(one != found["bert"] for option, one in found.items() if option != "bert")
    assert (found["mask40"].prob, found["mask40"].replace.mask) == (0.4, 1.0)
    assert found["all_mask"].replace.mask == 1.0
    decay = found["decay"]
    assert (decay.prob, decay.schedule.end, decay.schedule.name) == (0.3, 0.15, "linear")
    assert not found["static"].dynamic
    for strategy in ("whole_word", "span", "ngram", "pmi", "frequency"):
        assert found[strategy].strategy == strategy


def test_the_plan_tells_the_options_apart(experiment_config: Callable[..., Config]) -> None:
    chosen = [f"masking={option}" for option in OPTIONS] + ["masking.copies=10"]
    lines = {one: phase_facts(experiment_config(one), (), 1)["masking"] for one in chosen}
    assert len(set(lines.values())) == len(chosen)
    assert lines["masking=static"] == "token, 0.15, replaced 80/10/10, repeated after 1 epoch"
    assert lines["masking.copies=10"].endswith("80/10/10, repeated after 10 epochs")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("masking.prob=0",), "masking.prob=0: must be a number above 0 and at most 1"),
        (
            ("masking.replace.mask=0.9",),
            "masking.replace: mask=0.9, random=0.1, keep=0.1 add up to 1.1",
        ),
        (("masking.schedule.name=sine",), "masking.schedule.name=sine: must be one of"),
        (("masking.schedule.name=linear",), "masking.schedule.end=null: must be between 0 and 1"),
        (("masking.schedule.end=0.1",), "masking.schedule.end=0.1: must be null"),
        (("masking.strategy=spam",), "masking.strategy=spam: must be one of"),
        (("masking=static", "masking.copies=10"), "masking.copies=10: masking.dynamic=false has"),
    ],
)
def test_a_mistake_is_one_line(
    experiment_config: Callable[..., Config], overrides: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UserError) as error:
        experiment_config(*overrides)
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)
