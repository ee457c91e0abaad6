"""What readers of a comparison must know: why runs are not ranked, and how they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from statistics import fmean

from bertexp.compare.budgets import UNITS, first_trained, is_midway, spent
from bertexp.compare.comparable import (
    default_metric,
    differ_in_strategies,
    differ_in_tokenizers,
    distinct,
    fingerprint,
    in_common,
    measured_on,
    obstacles,
)
from bertexp.compare.results import Difference
from bertexp.compare.runs import Record
from bertexp.compare.settings import ENCODER, SEED, varying
from bertexp.console import value_text
from bertexp.metrics import BITS_PER_BYTE, describe
from bertexp.objectives.config import BankConfig

LENGTH = "task.max_length"
# Metrics of texts that are scored token by token, and the key of their number.
SCORED = ("eval/pseudo_perplexity", "eval/word_perplexity", BITS_PER_BYTE)
SCORED_KEYS = ("evaluation.pseudo_perplexity",)
# Keys that the banks of other metrics differ by.
BANK_KEYS = (*(f"evaluation.{each.name}" for each in fields(BankConfig)), LENGTH)
# Tokens a step that differ by no more are those of padding.
SAME_TOKENS = 1.02


def refusals(runs: Sequence[Record], metric: str) -> list[str]:
    """Return why runs are not ranked by a metric, a line each."""
    found = []
    for part, values in obstacles(runs, metric).items():
        if part == "tokenizer":
            found.append(
                f"Not ranked: the runs have different tokenizers, and {metric} depends on tokens; "
                f"what can be compared is --metric {BITS_PER_BYTE}, eval/probe/<name>, or, after "
                "bertexp.finetune, finetune/<task>/<metric>."
            )
            continue
        name, what, instead = part, ", ".join(value[:7] for value in values), ""
        if part == "bank":
            name, what = f"bank of {metric}", _banks(runs, metric) or what
            common = in_common(runs)
            instead = f", or all by --metric {' or '.join(common)}" if common else ""
        found.append(
            f"Not ranked: the {name} is not the same in all runs ({what}); compare those of one "
            f"{part}{instead}."
        )
    if not describe(metric).best:
        found.append(
            f"Not ranked: it is unknown whether a higher {metric} is better; a plugin can tell, "
            f"with bertexp.metrics.register('{metric}', lower_is_better=...)."
        )
    return found


def _banks(runs: Sequence[Record], metric: str) -> str:
    """Return the objectives and keys that banks differ by, else the settings of each bank.

    Empty if a setting has runs on several banks.
    """
    objectives = distinct(measured_on(run.summary, metric) for run in runs)
    keys = SCORED_KEYS if metric.startswith(SCORED) else BANK_KEYS
    values = {key: sorted({value_text(run.config.get(key)) for run in runs}) for key in keys}
    differing = [f"{key}={', '.join(found)}" for key, found in values.items() if len(found) > 1]
    if len(objectives) > 1 or differing:
        return "; ".join([", ".join(objectives)] * (len(objectives) > 1) + differing)
    settings: dict[str | None, set[str]] = {}
    for run in runs:
        settings.setdefault(fingerprint(run, "bank", metric), set()).add(run.setting)
    if sum(map(len, settings.values())) > len({run.setting for run in runs}):
        return ""
    return " against ".join(", ".join(sorted(labels)) for labels in settings.values())


def notes(
    runs: Sequence[Record],
    others: Sequence[str],
    differences: Sequence[Difference],
    at: str,
    budget: float | None,
) -> list[str]:
    """Return notes on the figures, a line each.

    Args:
        others: the keys in which runs of a setting differ.
    """
    counted = [run for run in runs if run.value is not None]
    found = []
    valued = Counter(run.setting for run in counted)
    for label, number in Counter(run.setting for run in runs).items():
        if lacking := number - valued[label]:
            found.append(f"{label}: {lacking} of {number} runs without a value.")
    found += _pooled(counted, others)
    alone = (each.setting for each in differences if not each.seeds)
    found += [f"{label}: no run is a pair with one of the baseline." for label in alone]
    if budget is None:
        found += _unequal_ends(counted, at)
    else:
        found += _unmeasured(runs, at, budget)
        if midway := sum(is_midway(run.curve, budget) for run in counted):
            found.append(
                f"{midway} of {len(counted)} runs trained on after {spent(at, budget)}: they are "
                "compared in mid-course, not at the end of their schedule."
            )
        if at == "steps":
            found += _unequal_steps(counted)
    return found + _cautions(counted)


def _unequal_ends(runs: Sequence[Record], at: str) -> list[str]:
    ends = sorted({run.curve[-1][0] for run in runs if run.curve})
    if len(ends) < 2:
        return []
    return [
        f"Runs are compared at their ends: after {spent(at, ends[0])} to {spent(at, ends[-1])}."
    ]


def _unmeasured(runs: Sequence[Record], at: str, budget: float) -> list[str]:
    firsts = [(run, first_trained(run.curve) or 0) for run in runs if run.value is None]
    late = [(run, first) for run, first in firsts if 0 < budget < first]
    if not late:
        return []
    column = UNITS[at].column
    advised = (
        int(step * budget / first)
        for run, first in late
        for line in run.history
        if line.get(column) == first and (step := line.get("step"))
    )
    every = min(advised, default=0)
    advice = f"evaluation.every={every}" if every else "a smaller evaluation.every"
    return [
        f"{len(late)} of {len(runs)} runs had no evaluation up to {spent(at, budget)} but the "
        f"one before their first step: they have no verdict; {advice} gives them one."
    ]


def _pooled(runs: Sequence[Record], others: Sequence[str]) -> list[str]:
    """Return what intervals are over besides seeds, a line each."""
    found = []
    pooled = varying(others, [(run.setting, run.config) for run in runs])
    if apart := [key for key in others if key not in (SEED, ENCODER, *pooled)]:
        found.append(f"Settings differ in {', '.join(apart)} as well.")
    if more := [key for key in pooled if key not in (SEED, ENCODER)]:
        found.append(
            f"Settings pool runs that differ in {', '.join(more)}: they are averaged within "
            "each seed, and intervals are over seeds."
        )
    if ENCODER in others:
        found.append(
            "Seeds are those that the encoders were pre-trained with: runs fine-tuned from one "
            "encoder, or from encoders of one seed, are averaged."
        )
    elif any(run.encoder for run in runs):
        found.append(
            "Seeds are those of fine-tuning: intervals are about these encoders, not about how "
            "they were pre-trained."
        )
    return found


def _unequal_steps(runs: Sequence[Record]) -> list[str]:
    found: dict[str, list[float]] = {}
    for run in runs:
        if (budget := run.summary.get("budget", {})).get("step"):
            found.setdefault(run.setting, []).append(budget["tokens"] / budget["step"])
    # Seeds differ in the texts that they read, which are of any length.
    rates = [fmean(each) for each in found.values()]
    if not rates or max(rates) <= SAME_TOKENS * min(rates):
        return []
    return [
        f"A step is not the same for all: it has {min(rates):,.0f} to {max(rates):,.0f} tokens; "
        "--at tokens compares at equal ones."
    ]


def _cautions(runs: Sequence[Record]) -> list[str]:
    found = []
    lengths = distinct(run.config.get(LENGTH) for run in runs)
    if len(lengths) > 1:
        found.append(f"Runs differ in {LENGTH} ({_some(lengths)}).")
    differing = ["tokenizers"] * differ_in_tokenizers(runs)
    if default_metric(runs) == BITS_PER_BYTE:
        differing += ["masking strategies"] * differ_in_strategies(runs)
        found.append(
            f"Runs have different {' and '.join(differing)}, on which a loss depends: "
            f"{BITS_PER_BYTE} is what they are compared by unless --metric names another."
        )
    corpora, tokens = (
        distinct(fingerprint(run, part, "") for run in runs) for part in ("corpus", "tokens")
    )
    if len(corpora) == 1 < len(tokens) and not differ_in_tokenizers(runs):
        found.append("Runs were trained on different tokens of the same corpus.")
    return found + _other_versions(runs)


def _other_versions(runs: Sequence[Record]) -> list[str]:
    found = []
    versions = [run.summary.get("versions", {}) for run in runs]
    for name in dict.fromkeys(name for known in versions for name in known):
        values = distinct(known.get(name) for known in versions)
        if len(values) > 1:
            what = "the code" if name == "git_commit" else name
            found.append(f"Runs are of different versions of {what} ({_some(values)}).")
    return found


def _some(values: Sequence[str]) -> str:
    """Return a few of the values, with commits shortened to seven digits."""
    cut = [value[:7] + "+" * value.endswith("+") * (len(value) > 7) for value in values[:3]]
    return ", ".join([*cut, "…"] if len(values) > 3 else cut)
