"""Why runs may not be ranked by a metric."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import fields

from bertexp.compare.comparable import (
    LENGTH,
    differ_in_tokenizers,
    distinct,
    fingerprint,
    measured_on,
)
from bertexp.compare.runs import Record
from bertexp.console import plural, value_text
from bertexp.metrics import BITS_PER_BYTE
from bertexp.objectives.config import BankConfig

# These must be equal: a better number on other data is not a better model.
MUST_AGREE = ("bank", "tokenizer", "corpus")
# Metrics that are measured on texts of their own, before any tokenizer.
OWN_TEXTS = ("eval/probe/", "eval/minimal_pairs", "finetune/")
NAMED = 3
# Metrics of texts that are scored token by token, and the key of their number.
SCORED = ("eval/pseudo_perplexity", "eval/word_perplexity", BITS_PER_BYTE)
SCORED_KEYS = ("evaluation.pseudo_perplexity",)
# Keys that the banks of other metrics differ by.
BANK_KEYS = (*(f"evaluation.{each.name}" for each in fields(BankConfig)), LENGTH)


def refusals(runs: Sequence[Record], metric: str) -> list[str]:
    found = []
    parts: tuple[str, ...] = MUST_AGREE
    if metric.startswith(OWN_TEXTS):
        # A share of right answers can be compared whatever text is cut into.
        parts = ("bank",)
    elif metric.startswith(BITS_PER_BYTE):
        parts = ("bank", "corpus")
    elif differ_in_tokenizers(runs):
        parts = ("corpus",)
        found.append(
            f"Not ranked: the runs have different tokenizers, and {metric} depends on tokens; what "
            f"can be compared is --metric {BITS_PER_BYTE}, eval/probe/<name>, or, after "
            "bertexp.finetune, finetune/<task>/<metric>."
        )
    for part in parts:
        values = distinct(fingerprint(run, part, metric) for run in runs)
        if len(values) < 2:
            continue
        if part == "bank":
            common = in_common(runs)
            by = f"or all by --metric {' or '.join(common)}"
            others = by if common else "as no measurement is the same in all runs"
            found.append(
                f"Not ranked: the bank of {metric} is not the same in all runs: "
                f"{_by_bank(runs, metric)}; compare those of one bank, {others}."
            )
        else:
            short = [value[:7] for value in values]
            found.append(
                f"Not ranked: the {part} is not the same in all runs ({', '.join(short)}); "
                f"compare those of one {part}."
            )
    return found


def in_common(runs: Sequence[Record]) -> list[str]:
    """Return the measurements of texts that all runs have in common."""
    first, *others = runs
    return [
        name
        for name in first.metrics
        if name.startswith((*OWN_TEXTS, BITS_PER_BYTE))
        and not name.startswith("eval/minimal_pairs/")
        and "@" not in name
        and all(name in run.metrics for run in others)
        and len(distinct(fingerprint(run, "bank", name) for run in runs)) == 1
    ]


def _by_bank(runs: Sequence[Record], metric: str) -> str:
    """Return in a few words the runs of each bank, the fewest first.

    They are called by their objective or their setting, whichever tells the banks apart.
    """
    banks: dict[str, list[Record]] = defaultdict(list)
    for run in runs:
        if (bank := fingerprint(run, "bank", metric)) is not None:
            banks[bank].append(run)
    groups = sorted(banks.values(), key=len)
    names: tuple[Callable[[Record], str | None], ...] = (
        lambda run: measured_on(run.summary, metric),
        lambda run: run.setting,
        lambda run: (fingerprint(run, "bank", metric) or "")[:7],
    )
    labels = [[_few(distinct(map(name, group))) for group in groups] for name in names]
    chosen = next(each for each in labels if len({*each}) == len(groups) or each is labels[-1])
    keys = [
        key
        for key in (SCORED_KEYS if metric.startswith(SCORED) else BANK_KEYS)
        if _tells_apart(key, groups)
    ]
    described = []
    for label, group in zip(chosen, groups, strict=True):
        values = {key: value_text(group[0].config.get(key)) for key in keys}
        own = [f"{key}={value}" for key, value in values.items() if f"{key}=" not in label]
        described.append(f"{label} ({', '.join([plural(len(group), 'run'), *own])})")
    return " against ".join([*described[:NAMED], "others"][: len(described)])


def _few(values: Sequence[str]) -> str:
    return ", ".join([*values[:NAMED], "…"][: len(values)])


def _tells_apart(key: str, groups: Sequence[Sequence[Record]]) -> bool:
    values = [{value_text(run.config.get(key)) for run in group} for group in groups]
    return all(len(each) == 1 for each in values) and len(set.union(*values)) > 1
