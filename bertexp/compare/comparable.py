"""Whether runs may be compared at all, and what a reader of the comparison must know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bertexp.compare.runs import Run
from bertexp.console import value_text

# Runs that differ in these answered other questions: a better number is not a better model.
MUST_AGREE = ("bank", "tokenizer", "corpus")
# Metrics that are measured on texts of their own, before any tokenizer.
OWN_TEXTS = ("eval/probe/", "finetune/")
LENGTH = "task.max_length"
# Tokens a step that differ by no more are those of padding.
SAME_TOKENS = 1.02


def bank_fingerprint(summary: Mapping[str, Any], metric: str) -> str | None:
    """Return the fingerprint of the questions that ``metric`` is measured on.

    A summary has one for each objective, and one for each kind of negatives: a metric is that
    of the kind it names (``eval/nsp_loss@swap``), or of the objective (``eval/nsp_loss``), else
    of masked language modelling; probes and fine-tuned figures have their own
    (``eval/probe/package``, ``finetune/sst2/accuracy``).
    """
    bank = summary.get("fingerprints", {}).get("bank", {})
    name, _, condition = metric.removeprefix("eval/").partition("@")
    objective = name.partition("_")[0]
    for asked in (f"{objective}@{condition}", metric, name, objective, "mlm", *bank):
        if asked in bank:
            return bank[asked]
    return None


def fingerprint(run: Run, part: str, metric: str) -> str | None:
    """Return what a run's summary says about one of its inputs."""
    if part == "bank":
        return bank_fingerprint(run.summary, metric)
    return run.summary.get("fingerprints", {}).get(part)


def refusals(runs: Sequence[Run], metric: str) -> list[str]:
    """Return why runs must not be ranked, a line each; nothing if they may be."""
    found = []
    # How many of a probe's answers are right can be compared whatever text is cut into.
    parts = ("bank",) if metric.startswith(OWN_TEXTS) else MUST_AGREE
    for part in parts:
        values = distinct(fingerprint(run, part, metric) for run in runs)
        if len(values) > 1:
            whose = f"{metric}'s bank" if part == "bank" else part
            found.append(
                f"Not ranked: the {whose} is not the same in all runs ({_some(values)}); "
                f"compare those of one {part}."
            )
    return found


def cautions(runs: Sequence[Run]) -> list[str]:
    """Return in what else runs differ that must not decide between them, a line each."""
    found = []
    lengths = distinct(run.config.get(LENGTH) for run in runs)
    if len(lengths) > 1:
        found.append(f"Runs differ in {LENGTH} ({_some(lengths)}).")
    inputs = [distinct(fingerprint(run, part, "") for run in runs) for part in ("corpus", "tokens")]
    if len(inputs[0]) == 1 < len(inputs[1]):
        found.append("Runs were trained on different tokens of the same corpus.")
    versions = [run.summary.get("versions", {}) for run in runs]
    for name in dict.fromkeys(name for known in versions for name in known):
        values = distinct(known.get(name) for known in versions)
        if len(values) > 1:
            what = "the code" if name == "git_commit" else name
            found.append(f"Runs are of different versions of {what} ({_some(values)}).")
    return found


def unequal_steps(runs: Sequence[Run]) -> list[str]:
    """Return a line if runs saw different numbers of tokens in as many steps."""
    budgets = [run.summary["budget"] for run in runs if run.summary.get("budget", {}).get("step")]
    rates = [budget["tokens"] / budget["step"] for budget in budgets]
    if not rates or max(rates) <= SAME_TOKENS * min(rates):
        return []
    return [
        f"A step is not the same for all: it has {min(rates):,.0f} to {max(rates):,.0f} tokens; "
        "--at tokens compares at equal ones."
    ]


def distinct(values: Iterable[Any]) -> list[str]:
    """Return the values that are not None as text, each once, in order."""
    return sorted({value_text(value) for value in values if value is not None})


def _some(values: Sequence[str]) -> str:
    """Return a few of the values, each cut to what tells commits apart."""
    shown = ", ".join(
        value[:7] + "+" * value.endswith("+") * (len(value) > 7) for value in values[:3]
    )
    return f"{shown}, …" if len(values) > 3 else shown
