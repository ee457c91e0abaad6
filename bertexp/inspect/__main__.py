"""``python -m bertexp.inspect``: looks inside an experiment or a trained model."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.text import Text

from bertexp.arguments import is_path, quoted
from bertexp.cli import enter
from bertexp.console import show
from bertexp.inspect import TOPICS
from bertexp.inspect.config import InspectConfig
from bertexp.terminal import command

if TYPE_CHECKING:
    from bertexp.inspect.subject import Subject

TWICE_ESCAPED = r"\\\${"
# Keys whose values Hydra's grammar does not read.
LITERAL = ("text", "text_b", "run")
_LITERAL = re.compile(rf"({'|'.join(LITERAL)})=(.+)", re.DOTALL)
_TOPICS = re.compile(r"what=([\w,]+)")


@command()
def main() -> None:
    """Show the topics of the command line, then exit."""
    if sys.argv[1:] and is_path(sys.argv[1]):
        # As in the other commands, a run's folder may stand first, without its key.
        sys.argv[1] = f"run={sys.argv[1]}"
    sys.argv[1:] = map(as_hydra_reads, sys.argv[1:])
    enter("inspect", InspectConfig, _inspect)


def _inspect(composed: DictConfig) -> None:
    inspect(composed)


def as_hydra_reads(argument: str) -> str:
    """Return an argument with its topics as a list, or its text quoted, for Hydra."""
    if match := _TOPICS.fullmatch(argument):
        return f"what=[{match[1]}]"
    match = _LITERAL.fullmatch(argument)
    if not match:
        return argument
    # What OmegaConf would fill in; it reads a value twice, so that its sign is escaped twice.
    return f"{match[1]}={quoted(match[2].replace('${', TWICE_ESCAPED))}"


def inspect(composed: DictConfig) -> Subject:
    """Show the topics of a configuration, and the files that were written."""
    from bertexp.inspect.subject import Subject

    subject = Subject.of(composed, HydraConfig.get().overrides.task)
    for number, topic in enumerate(subject.config.what):
        if number:
            show("")
        TOPICS[topic](subject)
    _hand_over(subject)
    return subject


def _hand_over(subject: Subject) -> None:
    if not subject.files:
        return
    from bertexp.tracking.trackers import open_beside

    for path in subject.files:
        show(Text(str(path), no_wrap=True, overflow="ignore"))
    saved = subject.saved
    about = str(saved.run or saved.source) if saved else subject.config.model.name
    tracker = open_beside(subject.config.tracker, "inspect", Path(about).name)
    if tracker:
        tracker.log_pictures("inspection", subject.files)
        tracker.finish()
        if tracker.location:
            show(Text(tracker.location, no_wrap=True, overflow="ignore"))


if __name__ == "__main__":
    main()
