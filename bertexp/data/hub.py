"""The Hugging Face Hub: whether it is there, and single files of it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

SECONDS_TO_ANSWER = 5

_NAME = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")


def find_file(path: str, name: str) -> Path | None:
    """Return a file of a local folder or of a Hub name, None where there is none.

    Raises:
        OSError, ValueError: the Hub knows no such name, or it is none.
    """
    if Path(path).is_dir():
        file = Path(path) / name
        return file if file.is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return Path(hf_hub_download(path, name, local_files_only=must_be_local(path)))
    except EntryNotFoundError:
        return None


def must_be_local(path: str) -> bool:
    """Say whether ``path`` can only be a local folder or in the Hub's cache here."""
    return Path(path).is_dir() or not hub_answers()


def is_away(path: str) -> bool:
    """Say whether ``path`` can only be a name on the Hub, which does not answer."""
    return bool(_NAME.fullmatch(path)) and not Path(path).exists() and not hub_answers()


@cache
def hub_answers() -> bool:
    """Say within seconds whether the Hub can be reached; its clients retry for much longer."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS_TO_ANSWER)
    except Exception:  # the type belongs to whichever HTTP library the Hub's client uses
        return False
    return True
