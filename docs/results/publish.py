"""Publish studies: a CSV and a picture for each, and the tables in docs/results.md.

    python docs/results/publish.py                        # from sweeps that have ended
    python docs/results/publish.py --run                  # run the sweeps first: `make results`
    python docs/results/publish.py --folder /data/sweeps mask_rate-tiny-1      # some of them

A CSV has the sweeps of one experiment in studies.yaml, a row for each setting; pictures and tables
are made from it. Sweeps are published on the machine that ran them, on its CPU.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from bertexp.api.comparison import Comparison
from bertexp.compare.results import JSON_FILE
from bertexp.compare.runs import read_run
from bertexp.compare.settings import short_keys
from bertexp.compare.wording import two_digits
from bertexp.config import Config
from bertexp.console import number, value_text
from bertexp.plotting import FAINT, GRID, HUES, INK, STYLE, save
from bertexp.training.setup import mixed_precision
from bertexp.unread import COMMAND_LINE, conditions, unread, written_keys

HERE = Path(__file__).parent
PAGE = HERE.parent / "results.md"
SWEEPS = Path("outputs") / "sweeps"
PLAN: Any = OmegaConf.to_container(OmegaConf.load(HERE / "studies.yaml"))
STUDIES: dict[str, str] = PLAN["studies"]
COLOURS = dict(zip(("better", "worse", "same"), HUES, strict=False))
# Overrides that are not part of a setting, or do not change its result.
NOT_OF_A_SETTING = {"sweep", "seed", "tracker", "trainer.resume"}

Row = dict[str, str]


def rows_of(sweep: Path) -> list[Row]:
    """Return a row for each setting of a sweep, the best first."""
    results = Comparison.of_sweep(sweep, None).results
    differences = {each.setting: each for each in results.differences}
    rows = []
    for setting in results.settings:
        runs = [r for r in results.runs if r.setting == setting.label and r.value is not None]
        run = read_run(Path(runs[0].folder))
        versions, budget = run.summary["versions"], run.summary["budget"]
        given = [*map(str, OmegaConf.load(run.folder / ".hydra" / "overrides.yaml"))]
        skipped = NOT_OF_A_SETTING | not_read(run.folder, given)
        kept = [each for each in given if each.partition("=")[0] not in skipped]
        read = {k: v for k, v in setting.values.items() if v is not None and k not in skipped}
        found = differences.get(setting.label)
        gap = [found.mean, found.low, found.high] if found else [None] * 3
        row = {
            "study": sweep.name,
            "setting": named(read),
            "overrides": shlex.join(kept),
            "model": f"{run.config['model.name']} {run.config['family.name']}",
            "metric": results.metric,
            "unit": results.unit,
            **{name: getattr(setting, name) for name in ("mean", "low", "high", "deviation")},
            "seeds": setting.seeds,
            **dict(zip(("difference", "difference_low", "difference_high"), gap, strict=True)),
            "verdict": found.verdict if found else "baseline",
            "margin": results.margin,
            "steps": budget["step"],
            "tokens": budget["tokens"],
            "flops": f"{budget['flops']:.3g}",
            "corpus": run.summary["fingerprints"]["corpus"],
            **machine(run.config["hardware.precision"]),
            **{name: versions[name] for name in ("torch", "transformers", "bertexp")},
            "commit": versions["git_commit"],
            "values": " ".join(f"{r.seed}:{r.value:.6f}" for r in runs),
        }
        texts = {name: f"{v:.6f}" if isinstance(v, float) else str(v) for name, v in row.items()}
        rows.append({name: value if row[name] is not None else "" for name, value in texts.items()})
    return rows


def named(setting: Mapping[str, object]) -> str:
    """Return a setting in a few words: keys without their groups, distributions by their names."""
    brief = short_keys([*setting])
    parts = (f"{brief[key].rpartition('.')[2]}={value_text(v)}" for key, v in setting.items())
    return re.sub(r"\{distribution:(\w+).*?\}", r"\1", ", ".join(parts))


def not_read(run: Path, overrides: Sequence[str]) -> set[str]:
    """Return those keys of overrides that a run does not read, which alone would be an error."""
    config: Any = OmegaConf.load(run / ".hydra" / "config.yaml")
    named = dict.fromkeys(written_keys(overrides), COMMAND_LINE)
    return {*unread(named, config, conditions(Config))}


def machine(precision: str) -> Row:
    """Return the hardware and precision of sweeps that ran on this machine's CPU."""
    cpu = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", cpu.read_text()) if cpu.is_file() else None
    name = found[1] if found else platform.processor()
    cpu_kind = f"CPU, one thread of {name}, {torch.backends.cpu.get_cpu_capability()}"
    exact = {"no": "float32", "bf16": "bfloat16"}[mixed_precision(precision, on_cpu=True)]
    return {"hardware": cpu_kind, "precision": exact}


def read(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return [*csv.DictReader(file)]


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write a study's rows, with those of its other sweeps that are in the file already."""
    kept = read(path) if path.is_file() else []
    studies = {row["study"] for row in rows}
    together = [row for row in kept if row["study"] not in studies] + [*rows]
    together.sort(key=lambda row: [*STUDIES].index(row["study"]))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows(together)


def values(row: Row) -> dict[int, float]:
    """Return the metric by seed."""
    return {int(k): float(v) for k, v in (pair.split(":") for pair in row["values"].split())}


def by_study(rows: Sequence[Row]) -> dict[str, list[Row]]:
    groups = itertools.groupby(rows, key=itemgetter("study"))
    return {study: [*found] for study, found in groups}


def table(rows: Sequence[Row]) -> str:
    """Return the Markdown table of one sweep."""
    cells = [["setting", axis(rows[0]), "difference (95%)", "seeds", "verdict"], ["---"] * 5]
    for row in rows:
        half = (float(row["high"]) - float(row["low"])) / 2
        digits = two_digits(half)
        mean = f"{number(float(row['mean']), digits)} ± {number(half, digits)}"
        cells.append([row["setting"], mean, difference(row), row["seeds"], row["verdict"]])
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def axis(row: Row) -> str:
    return f"{row['metric']} ({row['unit']})" if row["unit"] else row["metric"]


def difference(row: Row) -> str:
    if not row["difference"]:
        return ""
    if not row["difference_low"]:
        return number(float(row["difference"]), 3, signed=True)
    low, high = float(row["difference_low"]), float(row["difference_high"])
    digits = two_digits((high - low) / 2)
    shown = [number(n, digits, signed=True) for n in (float(row["difference"]), low, high)]
    return f"{shown[0]} ({shown[1]} to {shown[2]})"


def filled(page: str) -> str:
    """Return the page with the tables of all sweeps between their markers."""
    for path in sorted(HERE.glob("*.csv")):
        for study, rows in by_study(read(path)).items():
            begin, end = f"<!-- {study} -->", "<!-- end -->"
            before, _, rest = page.partition(begin)
            after = rest.partition(end)[2]
            page = f"{before}{begin}\n\n{table(rows)}\n\n{end}{after}" if rest else page
    return page


def picture(rows: Sequence[Row]) -> Figure:
    """Return the differences from the baseline of all sweeps of a study, one below the other."""
    studies = by_study(rows)
    heights = [len(found) + 0.6 for found in studies.values()]
    figure = Figure(figsize=(7.2, 0.7 + 0.38 * sum(heights)), layout="constrained")
    ratios = {"height_ratios": heights}
    grid = figure.subplots(len(studies), sharex=True, squeeze=False, gridspec_kw=ratios)[:, 0]
    for axes, (study, found) in zip(grid, studies.items(), strict=True):
        panel(axes, study, found)
    grid[-1].set_xlabel(f"difference in {axis(rows[0])}")
    return figure


def panel(axes: Axes, study: str, rows: Sequence[Row]) -> None:
    (baseline,) = (row for row in rows if not row["difference"])
    shown = [row for row in rows if row["difference"]]
    title = f"{study}: {baseline['model']}, {int(baseline['steps']):,} steps\nagainst "
    axes.set_title(title + baseline["setting"], loc="left", fontsize=9, color=INK)
    margin, base = float(baseline["margin"]), values(baseline)
    axes.axvspan(-margin, margin, color=GRID, lw=0)
    axes.axvline(0, color=FAINT, lw=1, ls=(0, (4, 3)))
    for place, row in enumerate(shown):
        colour = COLOURS.get(row["verdict"], FAINT)
        gaps = [value - base[seed] for seed, value in values(row).items() if seed in base]
        axes.plot(gaps, [place + 0.22] * len(gaps), "o", ms=3.6, alpha=0.5, mew=0, color=colour)
        if row["difference_low"]:
            ends = [float(row["difference_low"]), float(row["difference_high"])]
            axes.plot(ends, [place] * 2, color=colour, lw=1.8, solid_capstyle="butt")
        axes.plot(float(row["difference"]), place, "o", ms=7, mec="white", mew=0.8, color=colour)
        beside = axes.get_yaxis_transform()
        words = f"{row['verdict']}, {row['seeds']} seeds"
        axes.text(1.02, place, words, color=colour, transform=beside, va="center", fontsize=9)
    axes.set_yticks(range(len(shown)), [row["setting"] for row in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")


def main() -> None:
    """Publish the studies that the command line names, by default all that have ended."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", action="store_true", help="run the sweeps first, or resume them")
    parser.add_argument("--folder", type=Path, default=SWEEPS, help="where the sweeps are")
    parser.add_argument("studies", nargs="*", help=f"some of {', '.join(STUDIES)}")
    options = parser.parse_args()
    for study in options.studies or STUDIES:
        if study not in STUDIES:
            parser.error(f"'{study}' is none of {', '.join(STUDIES)}")
        sweep = options.folder / study
        if options.run:
            chosen = [*shlex.split(f"{PLAN['common']} {STUDIES[study]}"), f"sweep={study}"]
            where = f"hydra.sweep.dir={sweep}"
            subprocess.run([sys.executable, "-m", "bertexp", *chosen, where], check=True)
        # A sweep that has ended has its comparison.
        if (sweep / JSON_FILE).is_file():
            name = re.findall(r"\+experiment=(\w+)", STUDIES[study])[0]
            write(HERE / f"{name}.csv", rows_of(sweep))
    for path in sorted(HERE.glob("*.csv")):
        with matplotlib.rc_context(STYLE):
            save(picture(read(path)), path.with_suffix(".svg"))
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
