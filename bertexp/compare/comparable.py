"""Whether runs may be compared, and notes for readers of the comparison."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from bertexp.compare.budgets import UNITS, first_trained, is_midway, spent
from bertexp.compare.results import Difference
from bertexp.compare.runs import Record
from bertexp.compare.settings import ENCODER, SEED, varying
from bertexp.console import value_text
from bertexp.metrics import BITS_PER_BYTE, describe

DEFAULT_METRIC = "eval/loss"
LENGTH = "task.max_length"
# Tokens a step that differ by no more are those of padding.
SAME_TOKENS = 1.02


def measured_on(summary: Mapping[str, Any], metric: str) -> str | None:
    """Return the name of the fingerprint, in a summary, of the examples of ``metric``.

    A summary has one for each objective, and one for each of its conditions that has a name: a
    metric is of the condition it names (``eval/nsp_loss@swap``, ``eval/causal_loss``), or of the
    objective (``eval/nsp_loss``); one that names none (``eval/loss``) is of the objective whose
    metrics have no name in front, else of the first. Probes and fine-tuned figures have their own
    (``eval/probe/package``, ``finetune/sst2/accuracy``).
    """
    bank = summary.get("fingerprints", {}).get("bank", {})
    name, _, condition = metric.removeprefix("eval/").partition("@")
    objective = name.partition("_")[0]
    objectives = [key for key in bank if not {*"@/"} & {*key}]
    named = {each.removeprefix("eval/").partition("_")[0] for each in summary.get("metrics", ())}
    unnamed = [key for key in objectives if key not in named]
    modes = [f"{each}@{objective}" for each in objectives]
    own = (f"{objective}@{condition}", metric, metric.partition("@")[0], name, objective, *modes)
    keys = (*own, *unnamed, *objectives, *bank)
    return next((key for key in keys if key in bank), None)


def fingerprint(run: Record, part: str, metric: str) -> str | None:
    prints = run.summary.get("fingerprints", {})
    if part == "bank":
        return prints.get("bank", {}).get(measured_on(run.summary, metric))
    return prints.get(part)


def differ_in_tokenizers(runs: Sequence[Record]) -> bool:
    return len(distinct(fingerprint(run, "tokenizer", "") for run in runs)) > 1


def differ_in_strategies(runs: Sequence[Record]) -> bool:
    return len(distinct(run.config.get("masking.strategy") for run in runs)) > 1


def default_metric(runs: Sequence[Record]) -> str:
    """Return what runs are compared by unless the user names a metric.

    Single masked tokens, of which ``eval/loss`` is, favour strategies that mask single tokens: the
    other pieces of a word give one away. Bits per byte mask a word's later pieces too.
    """
    has_it = any(BITS_PER_BYTE in run.metrics for run in runs)
    by_words = differ_in_tokenizers(runs) or differ_in_strategies(runs)
    return BITS_PER_BYTE if has_it and by_words else DEFAULT_METRIC


def undirected(metric: str) -> list[str]:
    if describe(metric).best:
        return []
    return [
        f"Not ranked: it is unknown whether a higher {metric} is better; a plugin can tell, with "
        f"bertexp.metrics.register('{metric}', lower_is_better=...)."
    ]


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
    every = min(
        int(step * budget / first)
        for run, first in late
        for line in run.history
        if line.get(column) == first and (step := line.get("step"))
    )
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
    inputs = [distinct(fingerprint(run, part, "") for run in runs) for part in ("corpus", "tokens")]
    if differ_in_tokenizers(runs):
        found.append(
            "Runs have different tokenizers, and their losses are over different tokens: "
            f"{BITS_PER_BYTE} is what they are compared by unless --metric names another."
        )
    elif len(inputs[0]) == 1 < len(inputs[1]):
        found.append("Runs were trained on different tokens of the same corpus.")
    if differ_in_strategies(runs) and any(BITS_PER_BYTE in run.metrics for run in runs):
        found.append(
            "Runs have different masking strategies, and a token masked alone is given away by "
            f"the other pieces of its word: {BITS_PER_BYTE} is what they are compared by unless "
            "--metric names another."
        )
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


def distinct(values: Iterable[Any]) -> list[str]:
    return sorted({value_text(value) for value in values if value is not None})


def _some(values: Sequence[str]) -> str:
    """Return a few of the values, with commits shortened to seven digits."""
    cut = [value[:7] + "+" * value.endswith("+") * (len(value) > 7) for value in values[:3]]
    return ", ".join([*cut, "…"] if len(values) > 3 else cut)
