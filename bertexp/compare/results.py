"""The results of a comparison, which the table, the files, the plots and the page show."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bertexp.compare.settings import short_keys
from bertexp.console import value_text
from bertexp.files import write_json, write_text
from bertexp.metrics import describe

CSV_FILE = "compare.csv"
JSON_FILE = "compare.json"
# Raised whenever the meaning of compare.json changes.
FORMAT = 3


@dataclass(frozen=True)
class ComparedRun:
    """A run in a comparison.

    Attributes:
        folder: its folder, relative to the working directory where it is below it.
        status: ``finished``, ``running``, ``interrupted`` or ``failed``.
        curve: (spent, metric) of every evaluation, in the unit of ``Results.at``.
    """

    folder: str
    name: str
    status: str
    error: str | None
    seed: int | None
    setting: str
    value: float | None
    metrics: dict[str, float]
    curve: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Setting:
    """Runs that differ in nothing but the seed, or in what is averaged within each seed.

    Attributes:
        label: the user's name for it, or ``"prob=0.4, strategy=span"``: keys in order, each
            called by as much of its end as tells it from the others.
        runs: how many have the metric.
        seeds: how many seeds these have.
        mean, deviation: of the metric over seeds; the deviation is None for fewer than two.
        low, high: 95% interval of the mean, None for fewer than two seeds.
    """

    label: str
    values: dict[str, object]
    runs: int
    seeds: int
    mean: float | None
    deviation: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """A setting against the baseline, over seeds: the mean of each seed's pairs of runs.

    Attributes:
        setting: its label; of an effect, the value or the two values of keys that have it.
        mean: setting minus baseline, in the metric's unit; without a pair of their means.
        low, high: 95% interval of the difference, None for fewer than two seeds; if
            ``Results.anytime``, of all differences together, None for too few seeds.
        p_value: two-sided, of the paired t test; None for fewer than two seeds. If
            ``Results.anytime``, valid at any number of seeds.
        verdict: ``better``, ``worse``, ``same`` (within the margin), ``not resolved`` or
            ``one seed``; of an interaction ``resolved`` instead of the first two.
        seeds_needed: seeds that would resolve a difference of this size with a power of 80%, if
            ``Results.anytime`` if more are like those so far; None where it is resolved or not
            known.
    """

    setting: str
    seeds: int
    mean: float
    low: float | None
    high: float | None
    p_value: float | None
    p_corrected: float | None
    verdict: str
    seeds_needed: int | None


@dataclass(frozen=True)
class Look:
    """A difference after so many seeds, with its interval as in ``Difference``."""

    seeds: int
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ExampleDifference:
    """One run against another on the same examples of the bank, at the end of both.

    It shows whether these two models differ, not whether their settings do, which takes seeds.

    Attributes:
        mean: of the setting's loss minus the baseline's, in nats a prediction.
        low, high: 95% interval, None for a single document.
    """

    setting: str
    baseline: str
    examples: int
    documents: int
    mean: float
    low: float | None
    high: float | None
    scope: str = "these two models, not these two settings"


@dataclass(frozen=True)
class Ability:
    """An ability of a setting's encoders: a probe, or a task they were fine-tuned on.

    ``low`` and ``high`` are a 95% interval over seeds, None for fewer than two.
    """

    metric: str
    setting: str
    seeds: int
    mean: float
    low: float | None
    high: float | None
    median: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class Yardstick:
    """What the accuracy of a probe is compared with, whatever the setting.

    ``majority`` always predicts the most common class, ``tfidf`` classifies by the words alone.
    ``untrained`` encoders, and the ``control`` with random labels, are means over the runs.
    """

    metric: str
    majority: float
    tfidf: float
    untrained: float
    control: float


@dataclass(frozen=True)
class Results:
    """Settings side by side.

    Attributes:
        lower_is_better: of the metric; None where that is not known.
        at: the unit of the budget: ``predicted_tokens``, ``tokens``, ``steps``, ``time`` (seconds)
            or ``flops``.
        budget: how much of it every value is measured at, None where runs have none in common.
        ranked: whether the settings may be ranked; False where runs are not comparable.
        warnings: why not, and what else a reader must know, a line each.
        settings: from best to worst where they are ranked, else in the order of their values.
        differences: one for each setting with a mean but the baseline; none unless ranked.
        effects: of a full grid of keys, what each does and what two do together.
        answered: how many examples an accuracy of one run is of, by the metric's name.
        margin: differences within it are the same for the user; 0 if none was given.
        anytime: whether seeds were added until the differences were resolved, so that intervals
            and p values have to hold at any number of seeds.
        looks: by setting, the difference as seeds were added; empty unless ``anytime``.
    """

    metric: str
    lower_is_better: bool | None
    at: str
    budget: float | None
    keys: tuple[str, ...]
    baseline: str | None
    ranked: bool
    warnings: tuple[str, ...]
    settings: tuple[Setting, ...]
    differences: tuple[Difference, ...]
    runs: tuple[ComparedRun, ...]
    effects: tuple[Difference, ...] = ()
    examples: ExampleDifference | None = None
    abilities: tuple[Ability, ...] = ()
    yardsticks: tuple[Yardstick, ...] = ()
    answered: dict[str, int] = field(default_factory=dict)
    margin: float = 0.0
    anytime: bool = False
    looks: dict[str, tuple[Look, ...]] = field(default_factory=dict)

    @property
    def heading(self) -> str:
        return short_keys(self.keys)[self.keys[0]] if len(self.keys) == 1 else "setting"

    @property
    def unit(self) -> str:
        """The metric's: nats for a loss, nothing for a share or a perplexity."""
        return describe(self.metric).unit

    @property
    def axis(self) -> str:
        return f"{self.metric} ({self.unit})" if self.unit else self.metric

    @property
    def by_metric(self) -> dict[str, dict[str, Ability]]:
        found: dict[str, dict[str, Ability]] = defaultdict(dict)
        for ability in self.abilities:
            found[ability.metric][ability.setting] = ability
        return dict(found)


def write_json_file(comparison: Results, output: Path) -> Path:
    """Write ``compare.json``: the fields of ``Results``, with the ``format`` they are in."""
    path = output / JSON_FILE
    write_json(path, {"format": FORMAT, **asdict(comparison)})
    return path


def write_csv_file(comparison: Results, output: Path) -> Path:
    """Write ``compare.csv``: a row a run, with what was swept and all it was evaluated on."""
    values = {setting.label: setting.values for setting in comparison.settings}
    metrics = list(dict.fromkeys(name for run in comparison.runs for name in run.metrics))
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    head = [*comparison.keys, "seed", "status", "error", "value", *metrics, "name", "folder"]
    writer.writerow(head)
    for run in comparison.runs:
        known = values.get(run.setting, {})
        swept = [value_text(known[key]) if key in known else "" for key in comparison.keys]
        measured = [run.metrics.get(name) for name in metrics]
        writer.writerow(
            [*swept, run.seed, run.status, run.error, run.value, *measured, run.name, run.folder]
        )
    path = output / CSV_FILE
    write_text(path, rows.getvalue())
    return path
