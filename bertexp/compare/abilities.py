"""What encoders can do at the end of their runs, beside what is compared."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from bertexp.compare.comparable import OWN_TEXTS, refusals
from bertexp.compare.results import Ability, Setting
from bertexp.compare.runs import Run
from bertexp.compare.statistics import estimate

# Figures that are judged by how likely they are and not by how right.
NOT_SHOWN = ("loss",)
# Of fine-tuned runs themselves.
FINETUNED = "finetune.metrics"


def find_abilities(
    runs: Sequence[tuple[Run, str]], settings: Sequence[Setting]
) -> tuple[Ability, ...]:
    """Return what each setting's encoders came to, metric by metric, the settings in their order.

    Metrics that runs were asked differently about are left out.

    Args:
        runs: each with the label of its setting; those that have not finished do not count.
        settings: all of them.
    """
    finished = [(run, label) for run, label in runs if run.status == "finished"]
    names = dict.fromkeys(name for run, _ in finished for name in _names(run))
    found = []
    for name in names:
        if refusals([run for run, _ in finished if name in run.metrics], name):
            continue
        for setting in settings:
            known = [
                run.metrics[name]
                for run, label in finished
                if label == setting.label and name in run.metrics
            ]
            if known:
                e = estimate(known)
                spread = (statistics.median(known), min(known), max(known))
                found.append(
                    Ability(name, setting.label, len(known), e.mean, e.low, e.high, *spread)
                )
    return tuple(found)


def _names(run: Run) -> list[str]:
    """Return the metrics of a run that say what its encoder can do."""
    judged = tuple(f"eval/{name}" for name in run.config.get(FINETUNED) or ())
    return [
        name
        for name in run.metrics
        if name.startswith((*OWN_TEXTS, *judged)) and not name.endswith(NOT_SHOWN)
    ]
