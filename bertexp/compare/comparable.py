"""Whether runs may be compared by a metric: what must be the same, and what is not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bertexp.compare.runs import Record
from bertexp.console import value_text
from bertexp.metrics import BITS_PER_BYTE

DEFAULT_METRIC = "eval/loss"
# Metrics that are measured on texts of their own, before any tokenizer.
OWN_TEXTS = ("eval/probe/", "eval/minimal_pairs", "finetune/")


def measured_on(summary: Mapping[str, Any], metric: str) -> str | None:
    """Return the name of the fingerprint, in a summary, of the examples of ``metric``.

    There is one for each objective, and one for each of its conditions that has a name.
    """
    bank = summary.get("fingerprints", {}).get("bank", {})
    name, _, condition = metric.removeprefix("eval/").partition("@")
    objective = name.partition("_")[0]
    objectives = [key for key in bank if not {*"@/"} & {*key}]
    # Objectives whose metrics have their name in front: the others have ``eval/loss``.
    named = {each.removeprefix("eval/").partition("_")[0] for each in summary.get("metrics", ())}
    candidates = (
        f"{objective}@{condition}",  # eval/nsp_loss@swap
        metric,  # eval/probe/package, finetune/sst2/accuracy
        metric.partition("@")[0],  # eval/bits_per_byte@spelling
        name,
        objective,  # eval/nsp_loss
        *(f"{each}@{objective}" for each in objectives),  # eval/causal_loss: mntp@causal
        *(each for each in objectives if each not in named),  # eval/loss
        *objectives,
        *bank,
    )
    return next((key for key in candidates if key in bank), None)


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


def obstacles(runs: Sequence[Record], metric: str) -> dict[str, list[str]]:
    """Return what must be the same in all runs and is not, with its fingerprints.

    A better number on other data is not a better model.

    Returns:
        By name: ``tokenizer``, ``bank`` (unless the tokenizer differs, on which it depends) or
        ``corpus``.
    """
    parts: tuple[str, ...] = ("tokenizer", "bank", "corpus")
    if metric.startswith(OWN_TEXTS):
        # A share of right answers can be compared whatever text is cut into.
        parts = ("bank",)
    elif metric.startswith(BITS_PER_BYTE):
        parts = ("bank", "corpus")
    found = {part: distinct(fingerprint(run, part, metric) for run in runs) for part in parts}
    found = {part: values for part, values in found.items() if len(values) > 1}
    if "tokenizer" in found:
        found.pop("bank", None)
    return found


def in_common(runs: Sequence[Record]) -> list[str]:
    """Return the metrics on texts of their own by which all runs can be compared."""
    shared = set.intersection(*({*run.metrics} for run in runs))
    return [
        name
        for name in runs[0].metrics
        if name in shared
        and name.startswith((*OWN_TEXTS, BITS_PER_BYTE))
        and not name.startswith("eval/minimal_pairs/")
        and "@" not in name
        and not obstacles(runs, name)
    ]


def distinct(values: Iterable[Any]) -> list[str]:
    return sorted({value_text(value) for value in values if value is not None})
