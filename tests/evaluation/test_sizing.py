"""Texts are scored in proportion to the training, unless their number is set."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bertexp.experiment.prepare import Data

NAMES = ("eval/pseudo_perplexity", "eval/bits_per_byte")
AUTO = ("evaluation.pseudo_perplexity=auto", "trainer.epochs=null", "trainer.batch_size=16")
AUTO += ("task.max_length=64", "dataset.synthetic.documents=400", "dataset.validation_fraction=0.2")

Scored = Callable[..., list[list[str]]]


@pytest.fixture
def scored(prepared: Callable[..., Data]) -> Scored:
    """Return a function that returns the texts of both evaluators, those of the first as ids."""

    def texts(*overrides: str) -> list[list[str]]:
        own = ("evaluation.evaluators=[pseudo_perplexity,bits_per_byte]", *AUTO, *overrides)
        evaluators = prepared(*own).evaluators
        prints = [
            each.reference.fingerprints[name] for each, name in zip(evaluators, NAMES, strict=True)
        ]
        assert len({*prints}) == 2
        return [[*map(str, each.texts)] for each in evaluators]  # type: ignore[attr-defined]

    return texts


def test_a_longer_training_is_scored_on_more_texts_and_a_short_one_on_the_first_of_them(
    scored: Scored,
) -> None:
    # Nobody knows how much fits into a time.
    all_texts = scored("trainer.max_time=1")
    assert [*map(len, all_texts)] == [100, 100]
    counts = []
    for steps in (1, 2000, 4000, 20_000):
        found = scored(f"trainer.max_steps={steps}")
        counts.append([*map(len, found)])
        assert found == [of[: len(own)] for of, own in zip(all_texts, found, strict=True)]
        for own in (found[0],) if counts[-1][0] > 10 else ():
            passes = sum(min(64, len(text.strip("[]").split())) ** 2 for text in own)
            assert passes <= 0.01 * 3 * steps * 16 * 64
    assert (counts[0], counts[-1]) == ([10, 10], [100, 100])
    assert counts == sorted(counts)
    assert counts[0] < counts[1]
    # The same tokens of training.
    assert scored("trainer.max_tokens=2048000") == scored("trainer.max_steps=2000")


def test_the_plan_has_the_numbers(prepared: Callable[..., Data]) -> None:
    data = prepared(*AUTO, "trainer.max_steps=1", "evaluation.evaluators=[pseudo_perplexity,elbo]")
    assert [each.scored for each in data.evaluators] == ["10 for eval/pseudo_perplexity", ""]


def test_a_number_that_is_set_is_the_number(scored: Scored) -> None:
    texts = scored("evaluation.pseudo_perplexity=33", "trainer.max_steps=1")
    assert [*map(len, texts)] == [33, 33]


def test_runs_with_other_tokenizers_are_scored_on_the_same_bytes(scored: Scored) -> None:
    """They are compared by them, and one has many more tokens than the other in an epoch."""
    epochs = [scored("trainer.epochs=40", f"tokenizer.vocab_size={size}") for size in (80, 400)]
    (first, by_first), (second, by_second) = epochs
    assert first != second
    assert by_first == by_second
    assert 10 < len(by_first) < 100
