"""The comparison's page, in a browser: what it shows, sorts, switches, and does not fetch."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bertexp.compare import anytime
from bertexp.compare.page import write_page
from bertexp.compare.results import Ability, ExampleDifference, Results, Yardstick

Simulate = Callable[..., Results]
HOSTILE = "</script><script>window.hit=1</script><img src=x onerror=window.hit=1><!--'\"&{{7*7}}"
PROBLEMS = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")


@pytest.fixture(scope="module")
def mask_rate(simulate: Simulate) -> Results:
    """Five rates and three seeds, of which some have not finished."""
    comparison = simulate(warnings=("1 of 15 runs failed.",))
    runs = list(comparison.runs)
    runs[3] = replace(runs[3], status="failed", error="CUDA out of memory", value=None)
    runs[7] = replace(runs[7], status="running", value=None, curve=runs[7].curve[:9])
    runs[11] = replace(runs[11], status="interrupted", seed=None, value=None)
    runs[14] = replace(runs[14], status="killed", error="its process is gone")
    return replace(comparison, runs=tuple(runs))


@pytest.fixture(scope="module")
def page(mask_rate: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(mask_rate, tmp_path_factory.mktemp("page"))


def problems(browser: Any) -> list[Any]:
    """Return what the page has complained of, and whatever it asked for but itself."""
    asked = [e["params"]["request"]["url"] for e in browser.events if "request" in e["params"]]
    return [event for event in browser.events if event["method"] in PROBLEMS] + asked[1:]


def column(browser: Any, table: str, place: int) -> list[str]:
    """Return what a table's column shows, from top to bottom."""
    found: list[str] = browser.evaluate(
        f"[...document.querySelectorAll('#{table} tbody tr')]"
        f".map((row) => row.cells[{place}].innerText.trim().split('\\n')[0])"
    )
    return found


def test_says_the_answer_and_every_number(browser: Any, page: Path) -> None:
    browser.open(page)
    text = browser.evaluate("document.body.innerText")
    assert browser.evaluate("document.querySelector('h1').innerText") == (
        "masking.prob=0.4 is better than 0.15 by 0.080 nats (95% 0.054 to 0.107, 3 seeds)."
    )
    assert "1 of 15 runs failed." in text
    assert "CUDA out of memory" in text
    for status in ("● finished", "✕ failed", "◐ running", "■ interrupted", "✕ killed"):
        assert status in text
    assert not re.search(r"NaN|undefined|Infinity|object", text)
    # No ability was measured: there is no table of them.
    assert browser.evaluate("document.querySelector('#abilities')") is None
    assert "encoders" not in text
    assert problems(browser) == []
    browser.open(page, scripts=False)
    assert len(column(browser, "settings", 0)) == 5
    assert len(column(browser, "runs", 0)) == 15
    visible = "[...document.querySelectorAll('#theme, #metric, #curves')].map((e) => e.offsetWidth)"
    assert browser.evaluate(visible) == [0, 0, 0]
    assert "need JavaScript" in browser.evaluate("document.body.innerText")


def test_a_header_sorts_by_its_column(browser: Any, page: Path) -> None:
    browser.open(page)
    by_mean = column(browser, "settings", 3)
    assert by_mean == sorted(by_mean)
    header = "#settings th:nth-child({}) button"
    state = "[...document.querySelectorAll('#settings th[aria-sort]')].map((h) => h.ariaSort)"
    assert browser.evaluate(state)[:4] == ["none", "none", "none", "ascending"]
    browser.click(header.format(4))
    assert column(browser, "settings", 3) == by_mean[::-1]
    assert browser.evaluate(state)[:4] == ["none", "none", "none", "descending"]
    browser.click(header.format(1))
    rates = [float(text.split()[0]) for text in column(browser, "settings", 0)]
    assert rates == [0.1, 0.15, 0.2, 0.3, 0.4]
    # By keyboard too, and what has no value is last either way.
    for _ in range(2):
        browser.evaluate("document.querySelector('#runs th:nth-child(4) button').focus()")
        browser.press("Enter")
        values = column(browser, "runs", 3)
        assert values[-3:] == ["–"] * 3 and "–" not in values[:-3]
    assert values[:-3] == sorted(values[:-3], reverse=True)
    assert problems(browser) == []


def test_curves_are_switched_and_read(browser: Any, page: Path) -> None:
    browser.open(page)
    drawn = "[...document.querySelectorAll('#curves g.setting')].map((g) => g.dataset.label)"
    pressed = "[...document.querySelectorAll('#curves .entries button')].map((b) => b.ariaPressed)"
    assert len(browser.evaluate(drawn)) == 5
    browser.click("#curves .entries button:nth-child(2)")
    assert "masking.prob=0.15" not in browser.evaluate(drawn)
    assert browser.evaluate(pressed) == ["true", "false", "true", "true", "true"]
    browser.click("[data-show=none]")
    assert browser.evaluate(drawn) == []
    browser.click("[data-show=all]")
    assert len(browser.evaluate(drawn)) == 5
    read = "document.querySelector('#curves .readout').innerText"
    values = "[...document.querySelectorAll('#curves output')].map((o) => o.innerText)"
    assert browser.evaluate(read) == "After 1M predicted tokens:"
    at_end = browser.evaluate(values)
    browser.evaluate("document.querySelector('#curves figure svg').focus()")
    browser.press("ArrowLeft")
    assert browser.evaluate(read) == "After 950k predicted tokens:"
    assert browser.evaluate(values) != at_end
    ticks = "[...document.querySelectorAll('#curves figure text')].map((t) => +t.textContent || 0)"
    highest = f"Math.max(...{ticks})"
    before = browser.evaluate(highest)
    browser.click("#whole")
    assert browser.evaluate(highest) > before
    assert problems(browser) == []


def test_a_setting_is_read_in_the_metric_plot(browser: Any, page: Path) -> None:
    browser.open(page)
    assert browser.evaluate("document.querySelectorAll('#metric g.setting').length") == 5
    browser.click("#metric g.setting:nth-last-of-type(1) .mark")
    readout = browser.evaluate("document.querySelector('#metric .readout').innerText")
    assert re.fullmatch(r"masking.prob=0.4: 2.3998 \(95% 2.3890 to 2.4105\); runs: .*", readout)


@pytest.mark.parametrize("grid", [{"masking.prob": [0.15, 0.4]}, {"task.name": ["mlm", "nsp"]}])
def test_a_wide_interval_is_cut_at_the_edge(
    browser: Any, simulate: Simulate, tmp_path: Path, grid: dict[str, list[Any]]
) -> None:
    comparison = simulate(grid, seeds=2, effect=lambda _: 2.4)
    wide = tuple(replace(s, low=-50.0, high=50.0) for s in comparison.settings)
    found = ExampleDifference("a", "b", 2048, 31, -0.01, -0.02, -0.004)
    browser.open(write_page(replace(comparison, settings=wide, examples=found), tmp_path))
    inside = (
        "(() => { const box = document.querySelector('#metric svg').getBoundingClientRect();"
        "return [...document.querySelectorAll('#metric .interval')].every((line) => {"
        "const b = line.getBoundingClientRect();"
        "return b.left >= box.left && b.right <= box.right && b.top >= box.top"
        " && b.bottom <= box.bottom - 38; }); })()"
    )
    assert browser.evaluate(inside)
    text = browser.evaluate("document.body.innerText")
    assert "cut at the edge" in text
    assert "these two models, not these two settings" in text


@pytest.mark.parametrize("dark", [False, True])
def test_the_theme_follows_the_system_until_it_is_chosen(
    browser: Any, page: Path, dark: bool
) -> None:
    browser.open(page, dark=dark)
    paper = "getComputedStyle(document.body).backgroundColor"
    colours = {True: "rgb(21, 23, 26)", False: "rgb(255, 255, 255)"}
    assert browser.evaluate(paper) == colours[dark]
    browser.click("#theme")
    assert browser.evaluate(paper) == colours[not dark]
    browser.click("#theme")
    assert browser.evaluate(paper) == colours[dark]


@pytest.mark.parametrize(
    "grid",
    [
        None,
        {},
        {"dataset.files": [f"/data/{'very/' * 30}{n}.txt" for n in range(3)]},
        {"masking.prob": [0.15, 0.4], "model.name": ["tiny", "a" * 120]},
        {"trainer.batch_size": list(range(1, 61))},
    ],
)
def test_a_phone_scrolls_tables_and_never_the_page(
    browser: Any, simulate: Simulate, tmp_path: Path, grid: dict[str, list[Any]] | None
) -> None:
    browser.open(write_page(simulate(grid, seeds=2), tmp_path), width=360)
    assert browser.evaluate("document.documentElement.scrollWidth") == 360
    wide = "[...document.querySelectorAll('.scroll')].some((b) => b.scrollWidth > b.clientWidth)"
    assert browser.evaluate(wide)
    assert browser.evaluate("document.querySelector('#curves figure svg').clientWidth") <= 360
    assert problems(browser) == []


PROBES = ("package", "order", "word", "length")
TUNED = "finetune/rte/accuracy"


@pytest.fixture(scope="module")
def able(simulate: Simulate) -> Results:
    """Five rates, their probes, and a task that all but one were fine-tuned on."""
    comparison = simulate()
    found = []
    for metric in (*(f"eval/probe/{name}" for name in PROBES), TUNED):
        for number, setting in enumerate(comparison.settings):
            mean = 0.5 + 0.01 * number - 0.002 * len(metric)
            spread = (mean - 0.004, mean - 0.02, mean + 0.03)
            seeds = 2 if (metric, number) == (TUNED, 1) else 3
            one = Ability(metric, setting.label, seeds, mean, mean - 0.025, mean + 0.025, *spread)
            found += [one] * ((metric, number) != (TUNED, 0))
    yardsticks = [Yardstick(f"eval/probe/{name}", 0.125, 0.8, 0.3, 0.14) for name in PROBES]
    return replace(comparison, abilities=tuple(found), yardsticks=tuple(yardsticks))


GRIDS = [
    {"masking.prob": [0.15, 0.4], "masking.strategy": ["token", "whole_word"]},
    {"masking.prob": [0.15, 0.4], "model.name": ["bert_base_uncased", "small"], "task.x": [1, 2]},
]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("width", [1280, 390])
def test_the_verdict_is_seen_without_scrolling(
    browser: Any, simulate: Simulate, tmp_path: Path, grid: dict[str, list[Any]], width: int
) -> None:
    comparison = simulate(grid)
    effects = tuple(replace(d, setting=f"{d.setting} × b=2") for d in comparison.differences)
    browser.open(write_page(replace(comparison, effects=effects), tmp_path), width=width)
    each = "[...document.querySelectorAll('.cards{}')].map((e) => {})"
    beyond = each.format("", "e.scrollWidth - e.parentNode.clientWidth")
    assert max(browser.evaluate(beyond)) <= 0
    seen = browser.evaluate(each.format(" .verdict", "e.getBoundingClientRect().right"))
    assert len(seen) == 2 * len(comparison.differences) and 0 < max(seen) <= width
    text = browser.evaluate("document.querySelector('#effects').innerText")
    assert "not resolved" in text or "better" in text
    assert problems(browser) == []


def test_a_setting_of_the_users_is_called_by_its_name(
    browser: Any, simulate: Simulate, tmp_path: Path
) -> None:
    comparison = simulate()
    first, *rest = comparison.settings
    named = replace(first, label="mine")
    runs = tuple(
        replace(run, setting="mine") if run.setting == first.label else run
        for run in comparison.runs
    )
    comparison = replace(comparison, settings=(named, *rest), runs=runs, differences=())
    browser.open(write_page(comparison, tmp_path))
    assert browser.evaluate("document.querySelector('#settings tbody th').innerText") == "0.4 mine"
    assert "mine" in browser.evaluate("document.querySelector('#curves .entries').innerText")


def test_what_encoders_can_do_is_a_table(browser: Any, able: Results, tmp_path: Path) -> None:
    path = write_page(able, tmp_path)
    browser.open(path)
    heads = "[...document.querySelectorAll('#abilities th[scope=col]')].map((h) => h.innerText)"
    assert [head.strip("↕ \n") for head in browser.evaluate(heads)] == [
        *("masking.prob", "seeds"),
        *(f"eval/probe/{name}" for name in PROBES),
        TUNED,
    ]
    assert column(browser, "abilities", 2) == ["0.464", "0.474", "0.484", "0.494", "0.504"]
    assert column(browser, "abilities", 6) == ["–", "0.468", "0.478", "0.488", "0.498"]
    lines = "document.querySelector('#abilities tbody tr:nth-child({})').cells[{}].innerText"
    assert browser.evaluate(lines.format(2, 2)).split("\n") == ["0.474", "0.449 to 0.499"]
    assert browser.evaluate(lines.format(2, 6)).split("\n") == [
        *("0.468", "0.443 to 0.493", "median 0.464", "range 0.448 to 0.498", "2 seeds"),
    ]
    below = "[...document.querySelectorAll('#abilities tfoot tr')].map((row) => row.innerText)"
    assert [row.split() for row in browser.evaluate(below)] == [
        ["untrained", *["0.300"] * 4, "–"],
        ["random", "labels", *["0.140"] * 4, "–"],
        ["majority", *["0.125"] * 4, "–"],
        ["TF-IDF", *["0.800"] * 4, "–"],
    ]
    # The best of every column, and of none but that.
    best = "[...document.querySelectorAll('#abilities .best')].map((b) => b.innerText)"
    assert browser.evaluate(best) == ["0.504", "0.508", "0.510", "0.506", "0.498"]
    weight = "getComputedStyle(document.querySelector('#abilities .best')).fontWeight"
    assert browser.evaluate(weight) == "700"
    text = browser.evaluate("document.body.innerText")
    assert "accuracy of a linear classifier on the frozen encoder's features" in text
    assert "on the task's validation data" in text
    browser.click("#abilities th:nth-child(7) button")
    browser.click("#abilities th:nth-child(7) button")
    assert column(browser, "abilities", 6) == ["0.498", "0.488", "0.478", "0.468", "–"]
    assert problems(browser) == []
    browser.open(path, scripts=False)
    assert len(column(browser, "abilities", 0)) == 5
    browser.open(path, width=360)
    assert browser.evaluate("document.documentElement.scrollWidth") == 360


def test_one_setting_is_not_the_best_of_anything(
    browser: Any, simulate: Simulate, tmp_path: Path
) -> None:
    comparison = simulate({}, seeds=1)
    (setting,) = comparison.settings
    alone = Ability(TUNED, setting.label, 1, 0.5, None, None, 0.5, 0.5, 0.5)
    browser.open(write_page(replace(comparison, abilities=(alone,)), tmp_path))
    assert column(browser, "abilities", 2) == ["0.500"]
    assert "median 0.5" not in browser.evaluate("document.body.innerText")
    assert browser.evaluate("document.querySelectorAll('#abilities .best').length") == 0
    assert problems(browser) == []


def test_names_are_text_whatever_they_hold(
    browser: Any, simulate: Simulate, tmp_path: Path
) -> None:
    comparison = simulate({HOSTILE: [HOSTILE, "b"]}, effect=lambda _: 2.4, warnings=(HOSTILE,))
    run = replace(comparison.runs[0], name=HOSTILE, folder=HOSTILE, status="failed", error=HOSTILE)
    comparison = replace(comparison, runs=(run, *comparison.runs[1:]))
    page = write_page(comparison, tmp_path)
    browser.open(page)
    assert browser.evaluate("window.hit") is None
    assert browser.evaluate("document.images.length + document.scripts.length") == 2
    shown = (
        "[...document.querySelectorAll('#runs tbody tr:first-child > *')].map((c) => c.innerText)"
    )
    cells = browser.evaluate(shown)
    assert cells[0] == HOSTILE and cells[5] == HOSTILE and HOSTILE in cells[1]
    assert browser.evaluate("document.querySelector('.warnings li').innerText") == HOSTILE
    assert problems(browser) == []
    assert HOSTILE not in page.read_text()


def test_what_is_not_comparable_is_not_ranked(
    browser: Any, simulate: Simulate, tmp_path: Path
) -> None:
    warning = "Not comparable: the runs have different corpora."
    browser.open(write_page(simulate(ranked=False, warnings=(warning,)), tmp_path))
    text = browser.evaluate("document.body.innerText")
    assert "Not ranked" in text and warning in text
    assert not re.search(r"better|worse|best|verdict", text)
    sorted_headers = "document.querySelectorAll('[aria-sort=ascending],[aria-sort=descending]')"
    assert browser.evaluate(f"{sorted_headers}.length") == 0


def test_what_is_missing_is_a_dash(browser: Any, simulate: Simulate, tmp_path: Path) -> None:
    comparison = simulate()
    empty = {"mean": None, "deviation": None, "low": None, "high": None, "runs": 0}
    comparison = replace(
        comparison,
        differences=(),
        budget=None,
        settings=tuple(replace(s, **empty) for s in comparison.settings),
        runs=tuple(replace(r, value=None, curve=(), metrics={}) for r in comparison.runs),
    )
    path = write_page(comparison, tmp_path)
    browser.open(path)
    assert set(column(browser, "settings", 1)) == {"–"}  # of no differences: the means
    assert problems(browser) == []
    (data,) = re.findall(r'id="data">(.*?)</script>', path.read_text())
    json.loads(data, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_shows_the_path_of_each_interval(browser: Any, simulate: Simulate, tmp_path: Path) -> None:
    comparison = simulate(seeds=12)
    values = {d.setting: [d.mean + 0.01 * (-1) ** i for i in range(12)]
              for d in comparison.differences}  # fmt: skip
    found = {label: anytime.looks(gaps, 0.05 / 4) for label, gaps in values.items()}
    found["masking.prob=0.1"] = found["masking.prob=0.1"][:3]
    browser.open(
        write_page(replace(comparison, anytime=True, margin=0.02, looks=found), tmp_path),
        scripts=False,
    )
    shown = browser.evaluate(
        "[...document.querySelectorAll('.path')].map((figure) => ["
        "figure.innerText.trim(), figure.querySelector('.line').points.length,"
        "figure.querySelector('.band').points.length, figure.offsetWidth > 200])"
    )
    # A band has two points for each look from the 9th on, the fewest seeds for four differences.
    assert shown[1:] == [
        [f"masking.prob={rate}, 12 seeds", 12, 8, True] for rate in ("0.2", "0.3", "0.4")
    ]
    text = browser.evaluate("document.body.innerText")
    assert "however often one looks" in text and "Same: to within 0.02 nats" in text
    assert "Intervals of means are Student's t and hold for a single look" in text
    assert problems(browser) == []
