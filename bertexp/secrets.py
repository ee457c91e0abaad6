"""Keys and tokens of the environment must not be in a configuration."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping

from bertexp.validation import UserError

_SECRET = re.compile(r"(^|_)(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)
# Anything shorter is no key, and may be part of any word.
SHORTEST = 8


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
