"""Whether the Hugging Face Hub is there."""

from __future__ import annotations

from functools import cache
from pathlib import Path

SECONDS_TO_ANSWER = 5


def must_be_local(path: str) -> bool:
    """Say whether ``path`` can only be a local folder or in the Hub's cache here."""
    return Path(path).is_dir() or not hub_answers()


@cache
def hub_answers() -> bool:
    """Say within seconds whether the Hub can be reached; its clients retry for much longer."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS_TO_ANSWER)
    except Exception:  # the type belongs to whichever HTTP library the Hub's client uses
        return False
    return True
