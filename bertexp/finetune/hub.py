"""Labelled data from the Hugging Face Hub, or from a local folder in the same form."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bertexp.data.corpora.hub_corpus import offline_unless
from bertexp.data.hub import hub_answers
from bertexp.finetune.config import LabelledConfig
from bertexp.validation import UserError

if TYPE_CHECKING:
    from datasets import Dataset


def load_split(config: LabelledConfig, split: str, optional: bool) -> Dataset | None:
    """Load one split of ``finetune.hub``, from the cache alone if the Hub does not answer.

    Returns:
        None for a split that is not there and is ``optional``.

    Raises:
        UserError: it cannot be had.
    """
    from datasets import load_dataset

    if config.hub is None:
        raise UserError(
            f"finetune.path and finetune.hub are not set: finetune={config.name} needs one."
        )
    named = f"finetune.hub={config.hub}"
    try:
        with offline_unless(Path(config.hub).is_dir() or hub_answers()):
            return load_dataset(config.hub, config.hub_config, split=split)
    except ConnectionError as error:
        raise UserError(
            f"{named}: the Hugging Face Hub does not answer and the data are not in its cache here;"
            " type finetune.path=FOLDER (GLUE's own TSV files), or finetune=text"
            " finetune.train=FILE finetune.validation=FILE, or run this once with a network."
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        if optional and "split" in str(error):
            return None
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{named}: cannot load the split {split} ({reason}).") from error
