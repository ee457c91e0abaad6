"""The Hugging Face Hub: whether it can be reached, single files and data sets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from bertexp.validation import UserError

SECONDS_TO_ANSWER = 5

_NAME = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")


def find_file(path: str, name: str) -> Path | None:
    """Return a file of a local folder or a Hub repository; None if it has no such file.

    Raises:
        OSError, ValueError: the Hub has no such repository, or the name is invalid.
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


@contextmanager
def loading(path: str, named: str, wanted: str, instead: str) -> Iterator[None]:
    """Let ``datasets`` load in the context, from its local cache if the Hub does not answer.

    Args:
        instead: what to type if there is no network, for error messages.
    """
    from datasets import config

    before = config.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = before or not (Path(path).is_dir() or hub_answers())
    try:
        yield
    except ConnectionError as error:
        raise UserError(
            f"{named}: the Hugging Face Hub does not answer and the data set is not in its cache "
            f"here; type {instead}, or run this once with a network."
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{named}: cannot load {wanted}: {reason}") from error
    finally:
        config.HF_HUB_OFFLINE = before


def must_be_local(path: str) -> bool:
    """Whether ``path`` can only be a local folder or in the local cache of the Hub."""
    return Path(path).is_dir() or not hub_answers()


def refuse_run(path: str, named: str) -> None:
    """Raise a ``UserError`` if ``path`` is a run's folder, whose model and tokenizer are below."""
    if (Path(path) / "model" / "config.json").is_file():
        raise UserError(f"{named}: is a run's folder; write {named.rstrip('/')}/model.")


def is_unreachable(path: str) -> bool:
    """Whether ``path`` can only be a name on the Hub while the Hub does not answer."""
    return bool(_NAME.fullmatch(path)) and not Path(path).exists() and not hub_answers()


@cache
def hub_answers() -> bool:
    """Whether the Hub answers within seconds; its clients retry for much longer."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS_TO_ANSWER)
    except Exception:  # its type depends on the HTTP library that the Hub's client uses
        return False
    return True
