"""Command lines that are no configuration."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all of bertexp does."""

    def error(self, message: str) -> NoReturn:
        sys.exit(f"error: {message}.")
