"""What a checkpoint must have in common with the run that resumes it."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from bertexp.experiment.resuming import Resume
from bertexp.training.checkpoints import Checkpoint
from bertexp.validation import UserError

BEFORE = {"corpus": "c", "bank": {"mlm": "m", "eval/bits_per_byte": "ten texts"}}


@pytest.mark.parametrize(
    ("now", "changed"),
    [
        # A longer run is scored on more texts.
        (BEFORE | {"bank": {"mlm": "m", "eval/bits_per_byte": "a hundred"}}, None),
        (BEFORE | {"bank": {"mlm": "other", "eval/bits_per_byte": "ten texts"}}, "bank"),
        (BEFORE | {"corpus": "other"}, "corpus"),
    ],
)
def test_a_run_resumes_on_its_own_data(now: dict[str, object], changed: str | None) -> None:
    checkpoint = Checkpoint(Path("run/checkpoints/step-5"), {"step": 5, "fingerprints": BEFORE})
    if changed:
        with pytest.raises(UserError, match=rf"began with other data \({changed}\)"):
            Resume(OmegaConf.create(), checkpoint).check_data(now)
    else:
        Resume(OmegaConf.create(), checkpoint).check_data(now)
    Resume(OmegaConf.create(), checkpoint, forced=True).check_data(now)
