"""The mask rate over a run."""

from __future__ import annotations

import math

from bertexp.masking.config import MaskingConfig


def mask_rate(config: MaskingConfig, progress: float) -> float:
    """Return the rate at ``progress``, the share of the budget that is spent, in [0, 1].

    From ``masking.prob`` to ``masking.schedule.end``: in a line, along half a cosine, or in
    one step at ``masking.schedule.at``. Falling from 0.30 to 0.15 in a line is Ankner et al.
    2024, "Dynamic masking rate schedules for MLM pretraining"; cosines are in Yang et al.
    2023, "Learning better masking for better language model pre-training".
    """
    schedule = config.schedule
    if schedule.end is None:
        return config.prob
    if schedule.name == "step":
        return schedule.end if progress >= schedule.at else config.prob
    done = min(max(progress, 0.0), 1.0)
    if schedule.name == "cosine":
        done = (1 - math.cos(math.pi * done)) / 2
    return config.prob + (schedule.end - config.prob) * done
