"""Attempts: whole commands in an empty folder, with one cache for all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared-cache")


@pytest.fixture(scope="session")
def attempt(command: Callable[..., Any], shared_cache: Path) -> Callable[..., Any]:
    """Return a function that runs ``python -m bertexp`` in an empty folder of its own."""
    return functools.partial(command, BERTEXP_CACHE=str(shared_cache))
