"""``python -m bertexp.inspect``: looks inside an experiment without running it."""

from __future__ import annotations

from omegaconf import DictConfig

from bertexp.cli import enter
from bertexp.config import parse
from bertexp.inspection import TOPICS
from bertexp.inspection.config import InspectConfig


def main() -> None:
    """Show what the command line asks for, then exit."""
    enter("inspect", InspectConfig, _inspect)


def _inspect(composed: DictConfig) -> None:
    config = parse(composed, InspectConfig)
    TOPICS[config.what](config)


if __name__ == "__main__":
    main()
