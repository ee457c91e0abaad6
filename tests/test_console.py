"""What people read on a terminal."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from rich.console import Console

from bertexp.console import compact, number, plural, shortened_apart, show, size, table, value_text


@pytest.mark.parametrize(
    ("value", "text"),
    [(999, "999"), (999_949, "1M"), (1_500_000, "1.5M"), (0.25, "0.25"), (2.5e16, "25P")],
)
def test_counts_take_four_characters(value: float, text: str) -> None:
    assert compact(value) == text


def test_sizes_have_their_unit_apart() -> None:
    assert (size(12), size(1_234_567)) == ("12 B", "1.23 MB")


def test_a_dash_stands_for_what_is_no_number() -> None:
    assert number(None) == number(float("nan")) == "–"
    assert number(-1234.5, 1) == "−1,234.5"
    assert (plural(1, "run"), plural(1200, "run")) == ("1 run", "1,200 runs")


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.booleans() | st.none())
def test_a_value_reads_back_as_it_was_written(value: object) -> None:
    assert OmegaConf.create(f"key: {value_text(value)}").key == value
    # Equal values are written alike.
    assert [value_text(v) for v in (1, 1.0, [0.15, 2.0])] == ["1", "1", "[0.15,2]"]


@given(st.lists(st.text("ab", max_size=120), unique=True, max_size=6))
def test_labels_that_differ_stay_apart(labels: list[str]) -> None:
    found = shortened_apart(labels)
    assert len({*found.values()}) == len(labels)
    if len(labels) == 1:
        assert all(len(name) <= 44 for name in found.values())


@given(st.floats(1, 1e17))
def test_counts_are_right_to_half_a_percent(value: float) -> None:
    text = compact(value)
    factor = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}.get(text[-1], 1.0)
    assert float(text.rstrip("kMGTP")) * factor == pytest.approx(value, rel=5.1e-3)
    assert len(text) <= 6


def test_a_table_prints_brackets_and_keeps_its_figures_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show(table("[MASK] at 1", "loss", rows=[("[red] " + "word " * 30, "2.345")]))
    lines = capsys.readouterr().out.splitlines()
    assert "[MASK] at 1" in lines[0]
    assert "[red]" in lines[1]
    assert lines[1].endswith("2.345")
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("width", [24, 40, 200])
def test_a_narrow_terminal_loses_nothing(width: int) -> None:
    cells = ("masking.prob=0.4", "5.416 ± 0.257", "−0.03 ± 0.22", "not resolved")
    made = table("setting", "eval/loss", "difference", "verdict", rows=[cells])
    shown = io.StringIO()
    Console(file=shown, width=width).print(made)
    assert max(map(len, shown.getvalue().splitlines())) <= width
    digits = [sorted(filter(str.isdigit, text)) for text in (shown.getvalue(), "".join(cells))]
    assert digits[0] == digits[1] and "…" not in shown.getvalue()
