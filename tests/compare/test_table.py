"""What the terminal shows, in 80 columns."""

from __future__ import annotations

import io
from collections.abc import Callable

from rich.console import Console

from bertexp.compare.comparison import compare
from bertexp.compare.results import Results
from bertexp.compare.runs import Record
from bertexp.compare.table import render

MakeRun = Callable[..., Record]


def shown(comparison: Results) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    console.print(render(comparison))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= 80, lines
    return [line.rstrip() for line in lines]


def test_a_row_says_what_a_setting_is_worth(make_run: MakeRun) -> None:
    runs = [
        make_run((2.0 + seed + by,), seed=seed, masking__prob=prob)
        for prob, gains in ((0.15, (0, 0, 0)), (0.4, (-0.5, -0.52, -0.48)), (0.9, (0.1, 0.3, -0.1)))
        for seed, by in enumerate(gains)
    ]
    lines = shown(compare(runs))
    head = next(line for line in lines if line.startswith("masking.prob "))
    assert head.split() == ["masking.prob", "seeds", "eval/loss", "difference", "verdict", "needed"]
    rows = {line.split()[0]: line for line in lines[lines.index(head) + 1 :] if line.strip()}
    # 4.303 standard errors at two degrees of freedom: 4.303 × 0.02 / √3 = 0.0497.
    assert "2.5 ± 2.5  −0.500 ± 0.050  better" in rows["0.4"]
    assert rows["0.15"].endswith("baseline")
    assert "+0.10 ± 0.50    not resolved" in rows["0.9"]
    # The difference is half as large as its spread: 34 pairs at 5% (Cohen 1988).
    assert rows["0.9"].endswith("  34")
    text = " ".join(lines)
    assert "Every run at 10 steps" in text and "2 together (Holm)" in text


def test_long_names_reasons_and_brackets_stay_within_80_columns(make_run: MakeRun) -> None:
    runs = [
        make_run(
            (12345.678 + seed,),
            seed=seed,
            status="finished" if seed < 2 else "failed",
            masking__prob=prob,
            evaluation__mask_probs=[0.15, prob],
            dataset__files=["/a/very/long/path/to/some/corpus/of/text/" * 3 + str(prob)],
        )
        for prob in (0.15, 0.4)
        for seed in range(3)
    ]
    text = "".join(shown(compare(runs)))
    assert "[0.15,0.4]" in text.replace(" ", "")
    assert text.count("failed") == 2


def test_verdicts_are_whole_beside_long_names_and_wide_intervals(make_run: MakeRun) -> None:
    """Two seeds of an accuracy: the interval has two ends, both of them far away."""
    runs = [
        make_run(
            (0.3 + 0.2 * seed + (prob > 0.2) * (0.1 + 0.15 * seed),),
            seed=seed,
            metric="eval/probe/package",
            masking__prob=prob,
            masking__strategy=strategy,
            model__name="bert_base_uncased" if prob > 0.2 else "small",
        )
        for prob in (0.15, 0.4)
        for strategy in ("whole_word", "frequency")
        for seed in range(2)
    ]
    for run in runs:
        run.summary["answered"] = {"eval/probe/package": 78}  # type: ignore[index]
    lines = shown(compare(runs, metric="eval/probe/package"))
    text = "\n".join(lines[next(n for n, line in enumerate(lines) if "seeds" in line) :])
    assert text.count("not resolved") >= 2 and "equal" in text and "…" not in text
    assert "One run's accuracy on 78 examples is known to ± 0.1" in " ".join(text.split())
    assert "strategy=" in text and " to 0.99" in text
    assert "(-" not in text and "1.1" not in text


def test_equal_results_are_not_called_unresolved(make_run: MakeRun) -> None:
    runs = [make_run((2.0 + s,), seed=s, masking__prob=p) for p in (0.15, 0.4) for s in range(2)]
    (row,) = (line for line in shown(compare(runs)) if line.startswith("0.4 "))
    assert row.split()[-4:] == ["+0.000", "±", "0.000", "equal"]
