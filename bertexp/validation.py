"""Mistakes of the user: the error type, and checks that raise it in one line."""

from __future__ import annotations

import difflib
import errno
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral, Real


class UserError(ValueError):
    """A mistake the user can fix: one line that names the key or file and what to do."""

    def _render_traceback_(self) -> list[str]:
        """Return the lines that a notebook shows: that one alone."""
        return [f"error: {self}"]


# The limit of most file systems, less what is added before and after the name.
LONGEST_NAME = 200

# Errors of a disk that is full, over its quota or not writable.
_DISK = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM")}


_SECRET = re.compile(r"(^|_)(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)
# Anything shorter is no key, and may be part of any word.
SHORTEST = 8


def is_mistake(error: Exception) -> bool:
    """Whether one line explains an error: a mistake of the user's, or a full disk."""
    return isinstance(error, UserError) or (isinstance(error, OSError) and error.errno in _DISK)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message without its stop; the type if there is none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".: ")


@contextmanager
def reported(what: str, *errors: type[Exception]) -> Iterator[None]:
    """Turn ``errors`` of a library into a ``UserError``: ``what`` failed, and their first line."""
    try:
        yield
    except UserError:
        raise
    except errors as error:
        raise UserError(f"{what}: {first_line(error)}.") from error


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the choice nearest to ``name``, or an empty text."""
    match = difflib.get_close_matches(name, list(choices), n=1)
    return f" Did you mean '{match[0]}'?" if match else ""


def nearest_key(name: str, keys: Iterable[str]) -> str:
    """Return ``" Did you mean 'a.x'?"`` for a key with the same last part, or the nearest one."""
    keys = list(keys)
    last = name.rpartition(".")[2]
    alike = [key for key in keys if key.rpartition(".")[2] == last]
    if alike:
        likeness = [difflib.SequenceMatcher(None, name, key).ratio() for key in alike]
        return f" Did you mean '{alike[likeness.index(max(likeness))]}'?"
    return nearest(name, keys)


def require(condition: bool, key: str, found: object, allowed: str) -> None:
    """Raise a ``UserError`` that names the ``allowed`` values of ``key`` unless ``condition``."""
    if not condition:
        raise UserError(f"{key}={_in_a_line(found)}: must be {allowed}.")


def require_text(key: str, found: object) -> None:
    require(isinstance(found, str), key, found, "a string")


def require_count(key: str, found: object) -> None:
    require(isinstance(found, Integral) and int(found) > 0, key, found, "a whole number above 0")


def require_margin(key: str, found: object) -> None:
    fits = not isinstance(found, bool) and isinstance(found, Real) and 0 <= float(found) < math.inf
    require(fits, key, found, "a number, 0 or above")


def require_shares(key: str, shares: Mapping[str, float]) -> None:
    """Raise a ``UserError`` unless shares, by name, add up to 1."""
    if not math.isclose(total := sum(shares.values()), 1, abs_tol=1e-6):
        parts = ", ".join(f"{name}={share:g}" for name, share in shares.items())
        raise UserError(f"{key}: {parts} add up to {total:g}; the shares must add up to 1.")


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def require_folder_name(key: str, found: str) -> None:
    """Raise a ``UserError`` unless ``found`` is a folder's name without a path."""
    fits = found not in ("", ".", "..") and not set(found) & set("/\\\0")
    fits = fits and len(found.encode(errors="replace")) <= LONGEST_NAME
    require(fits, key, found, f"a folder's name: no slashes, {LONGEST_NAME} bytes at most")


def require_choice(key: str, found: str | bool, choices: Iterable[str | bool]) -> None:
    """Raise a ``UserError`` with the nearest match unless ``found`` is one of ``choices``."""
    choices = list(choices)
    if found not in choices:
        names = [str(each).lower() if isinstance(each, bool) else each for each in choices]
        allowed = f"one of {', '.join(names)}.{nearest(str(found), names)}"
        raise UserError(f"{key}={_in_a_line(found)}: must be {allowed}")


def _in_a_line(found: object) -> str:
    if found is None or isinstance(found, bool):
        return "null" if found is None else str(found).lower()
    text = str(found)
    return text if text.isprintable() else repr(text)


def refuse_secrets(values: Mapping[str, object]) -> None:
    """Refuse a configuration that holds a key, a token or a password of the environment.

    It would be written to logs and trackers. Its value is not shown.

    Raises:
        UserError: a value contains one, as from ``${oc.env:WANDB_API_KEY}``.
    """
    secrets = {
        value: name
        for name, value in os.environ.items()
        if _SECRET.search(name) and len(value) >= SHORTEST
    }
    for key, text in _texts(values):
        for secret, name in secrets.items():
            if secret in text:
                raise UserError(
                    f"{key}: must not hold the environment's {name}: configurations are written "
                    "to logs and trackers."
                )


def _texts(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, key)
