"""``optimizer.lr: null``: a peak learning rate by the model's width and initial weights."""

from __future__ import annotations

import math

from omegaconf import DictConfig, OmegaConf

# From scratch, up to a hidden size. Tiny's rate is tuned for a few megabytes and steps of 16
# sequences; small's is ELECTRA-small's (Clark et al. 2020, table 6), mini's is between the two, and
# 1e-4 is BERT's (Devlin et al. 2019, section A.2), for batches of 256.
FROM_SCRATCH = {128: 2.5e-3, 256: 1e-3, 512: 5e-4, math.inf: 1e-4}
# From a checkpoint: between the 2e-5 that BERT's authors recommend (README of
# google-research/bert) and the 1e-4 of Gururangan et al. 2020, "Don't stop pretraining".
FROM_CHECKPOINT = 5e-5
# Fine-tuning: for small models the highest rate of Turc et al. 2019, for BERT's sizes the middle
# one of Devlin et al. 2019, section A.3.
FINE_TUNING = {512: 3e-4, math.inf: 3e-5}


def default_rate(pretrained: str | None, hidden_size: float) -> tuple[float, str]:
    """Return the peak rate of pre-training, and the reason for it."""
    if pretrained:
        return FROM_CHECKPOINT, "for a checkpoint"
    return _of_width(FROM_SCRATCH, hidden_size)


def fine_tuning_rate(hidden_size: float) -> tuple[float, str]:
    """Return the peak rate of fine-tuning, and the reason for it."""
    return _of_width(FINE_TUNING, hidden_size)


def explained(rate: float, default: tuple[float, str]) -> str:
    """Return a rate, with its reason if it is the default."""
    return f"{rate:g}, {default[1]}" if rate == default[0] else f"{rate:g}"


def with_rate(composed: DictConfig) -> DictConfig:
    """Return the configuration with a number for ``optimizer.lr``, if its other keys are valid.

    Raises:
        UserError: the model to fine-tune cannot be read.
    """
    rate = OmegaConf.select(composed, "optimizer.lr")
    run, width = (OmegaConf.select(composed, key) for key in ("run", "model.hidden_size"))
    if rate is not None:
        return composed
    if isinstance(width, int | float):
        rate, _ = default_rate(OmegaConf.select(composed, "model.pretrained"), width)
    elif isinstance(run, str):
        from bertexp.experiment.saved import find_saved

        rate, _ = fine_tuning_rate(find_saved(run).architecture().hidden_size)
    else:
        return composed
    settled = composed.copy()
    OmegaConf.update(settled, "optimizer.lr", rate, force_add=True)
    return settled


def _of_width(rates: dict[float, float], hidden_size: float) -> tuple[float, str]:
    rate = next(rate for width, rate in rates.items() if hidden_size <= width)
    return rate, f"for a hidden size of {hidden_size}"
