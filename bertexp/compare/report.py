"""The output: the comparison, with which every sweep ends, or a list of runs."""

from __future__ import annotations

import textwrap
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rich.text import Text

from bertexp import console
from bertexp.compare.comparable import distinct
from bertexp.compare.comparison import compare
from bertexp.compare.page import write_page
from bertexp.compare.plots import write_plots
from bertexp.compare.results import Results, write_csv_file, write_json_file
from bertexp.compare.runs import Record, is_run, read_runs
from bertexp.compare.settings import SEED, differing_keys
from bertexp.compare.table import render
from bertexp.config import changes_outcome
from bertexp.console import number, plural, short_path, value_text
from bertexp.experiment.folder import CONFIG_FILE, RECORD
from bertexp.files import expanded
from bertexp.validation import UserError

OUTPUTS = Path("outputs") / "compare"
SECONDS_BETWEEN_LOOKS = 5
# Runs that are compared differ in no more keys, and in their budgets by no more.
MOST_KEYS = 3
MOST_TIMES_LONGER = 4
# How many keys a line names, and how wide a run's name may be.
NAMED, WIDEST = 4, 34
DECIMALS = 3


def compare_runs(runs: Sequence[Record], output: Path, **chosen: Any) -> Results:
    """Run ``compare`` with ``chosen``, write all files to ``output`` and print the table."""
    comparison = compare(runs, **chosen)
    terminal = console.output()
    try:
        page, *written = write_files(comparison, output)
    except UserError:
        terminal.print(render(comparison))
        raise
    terminal.print(Text(str(page)), soft_wrap=True)
    terminal.print(render(comparison))
    terminal.print()
    for path in written:
        terminal.print(Text(str(path)), soft_wrap=True)
    return comparison


def write_files(comparison: Results, output: Path) -> list[Path]:
    """Write the page, the tables and the plots of a comparison; returns their paths.

    Raises:
        UserError: the folder cannot be written.
    """
    output = expanded(output)
    try:
        output.mkdir(parents=True, exist_ok=True)
        written = [write_csv_file(comparison, output), write_json_file(comparison, output)]
        written += write_plots(comparison, output)
        return [write_page(comparison, output), *written]
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({error.strerror}).") from error


def watch(paths: Sequence[str | Path], **chosen: Any) -> None:
    """Show the table whenever it has changed, until all runs have ended."""
    terminal = console.output()
    before = None
    while True:
        comparison = compare(read_runs(paths), **chosen)
        if all(run.status != "running" for run in comparison.runs):
            return
        if comparison != before:
            terminal.clear()
            terminal.print(render(comparison))
            before = comparison
        time.sleep(SECONDS_BETWEEN_LOOKS)


def default_output(paths: Sequence[str]) -> Path:
    """Return where to write: into the one folder that was given, unless it is itself a run."""
    first = expanded(paths[0])
    if len(paths) == 1 and first.is_dir() and not is_run(first):
        return first
    return OUTPUTS / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"


def unrelated(runs: Sequence[Record]) -> str | None:
    """Return why runs are too different to be compared; None if they are not.

    The jobs of one sweep can be compared, and any two runs; others if they differ in few keys
    and none is much shorter than another.
    """
    if len(runs) <= 2 or (runs[0].sweep and len({run.sweep for run in runs}) == 1):
        return None
    keys = differing_keys([run.config for run in runs])
    if len(keys) > MOST_KEYS:
        more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
        return f"they differ in {', '.join(keys[:NAMED])}{more}"
    steps = [step for run in runs if run.status == "finished" and (step := _steps(run))]
    if steps and max(steps) > MOST_TIMES_LONGER * min(steps):
        return f"they trained for {min(steps):,} to {max(steps):,} steps"
    return None


def show_list(runs: Sequence[Record], metric: str | None, why: str | None) -> None:
    """Print each run: its name, start, status and result, its settings, and its folder.

    The jobs of a sweep are one entry, unless there is nothing else.

    Args:
        metric: what to show as the result, by default the loss, of fine-tuned runs their metric.
        why: why they are listed and not compared, for a note; None where that was wanted.
    """
    by_sweep: dict[Path | None, list[Record]] = defaultdict(list)
    for run in runs:
        by_sweep[run.sweep].append(run)
    entries = []
    for sweep, jobs in by_sweep.items():
        if sweep is None or len(by_sweep) == 1:
            entries += [_entry(run.name, run.folder, [run], metric, _run(run)) for run in jobs]
        else:
            entries.append(_entry(sweep.name, sweep, jobs, metric, _sweep(jobs)))
    width = min(max(len(entry.name) for entry in entries), WIDEST)
    terminal = console.output()
    wrap = partial(textwrap.fill, width=terminal.width, subsequent_indent="  ",
                   break_long_words=False, break_on_hyphens=False)  # fmt: skip
    for each in sorted(entries, key=lambda entry: entry.began):
        when = f"{datetime.fromtimestamp(each.began):%Y-%m-%d %H:%M}"
        head = wrap(f"{each.name:{width}}  {when}  {each.ended:11}  {each.result}")
        details = (wrap(f"  {line}") for line in each.details)
        title = Text.assemble((head[: len(each.name)], "bold"), head[len(each.name) :])
        terminal.print(title, soft_wrap=True)
        # A path is in one line, however long, to be copied.
        for line in (*details, f"  {short_path(each.folder)}"):
            terminal.print(Text(line, "dim"), soft_wrap=True)
    if why:
        note = (
            f"Listed, not compared: {why}. To compare them anyway, name the keys that tell "
            "settings apart: --by KEY."
        )
        terminal.print(Text(f"\n{note}"))


class _Entry(NamedTuple):
    began: float
    name: str
    ended: str
    result: str
    details: list[str]
    folder: Path


def _entry(
    name: str, folder: Path, runs: Sequence[Record], metric: str | None, details: list[str]
) -> _Entry:
    statuses = Counter(run.status for run in runs)
    ended = [f"{count} {status}" if len(runs) > 1 else status for status, count in statuses.items()]
    began = min((run.folder / CONFIG_FILE).stat().st_mtime for run in runs)
    return _Entry(began, name, ", ".join(ended), _result(runs, metric), details, folder)


def _run(run: Record) -> list[str]:
    did = [*distinct(run.config.get(key) for key in ("task.name", "finetune.name"))]
    did += [
        value_text(run.config[k])
        for k in ("dataset.name", "model.name", "run")
        if run.config.get(k)
    ]
    what = f"{', '.join(did)}; {plural(_steps(run), 'step')}"
    error = run.error.splitlines()[:1] if run.error else []
    return [*error, ": ".join(filter(None, [what, " ".join(_typed(run))]))]


def _sweep(jobs: Sequence[Record]) -> list[str]:
    keys = differing_keys([run.config for run in jobs])
    swept = [f"{k}={','.join(distinct(run.config.get(k) for run in jobs))}" for k in keys[:NAMED]]
    swept += ["…"] * (len(keys) > NAMED)
    seeds = len(distinct(run.seed for run in jobs))
    what = f"{plural(len(jobs), 'run')}, {plural(seeds, SEED)}"
    return [": ".join(filter(None, [what, " ".join(swept)]))]


def _result(runs: Sequence[Record], metric: str | None) -> str:
    name = metric or [*runs[0].task_metrics, "eval/loss"][0]
    values = [run.metrics[name] for run in runs if name in run.metrics]
    if not values:
        return ""
    ends = dict.fromkeys(number(value, DECIMALS) for value in (min(values), max(values)))
    return f"{name} {' to '.join(ends)}"


def _typed(run: Record) -> Iterator[str]:
    """Yield what the run was started with that its result depends on, without groups."""
    from omegaconf import OmegaConf

    path = run.folder / RECORD / "overrides.yaml"
    for override in OmegaConf.load(path) if path.is_file() else ():
        key = str(override).lstrip("+~").partition("=")[0]
        if "." in key and changes_outcome(key) and not key.startswith("hydra."):
            yield str(override)


def _steps(run: Record) -> int:
    lines: Iterator[Mapping[str, float | None]] = reversed(run.history)
    return int(next((line["step"] or 0 for line in lines if "step" in line), 0))
