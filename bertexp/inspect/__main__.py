"""``python -m bertexp.inspect``: looks inside an experiment or a trained model."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from bertexp.arguments import quoted
from bertexp.cli import enter
from bertexp.config import parse
from bertexp.experiment.resuming import as_recorded
from bertexp.inspect import TOPICS
from bertexp.inspect.config import InspectConfig
from bertexp.terminal import command
from bertexp.unread import COMMAND_LINE, refuse_unread, written_keys

if TYPE_CHECKING:
    from bertexp.inspect.subject import Subject

TWICE_ESCAPED = r"\\\${"
_LITERAL = re.compile(r"(text|text_b|run)=(.+)", re.DOTALL)
_TOPICS = re.compile(r"what=([\w,]+)")


@command()
def main() -> None:
    """Show the topics of the command line, then exit."""
    sys.argv[1:] = [_as_hydra_reads(argument) for argument in sys.argv[1:]]
    enter("inspect", InspectConfig, _inspect)


def _as_hydra_reads(argument: str) -> str:
    if match := _TOPICS.fullmatch(argument):
        return f"what=[{match[1]}]"
    match = _LITERAL.fullmatch(argument)
    if not match:
        return argument
    # What OmegaConf would fill in; it reads a value twice, so that its sign is escaped twice.
    return f"{match[1]}={quoted(match[2].replace('${', TWICE_ESCAPED))}"


def _inspect(composed: DictConfig) -> None:
    from bertexp.experiment.saved import find_saved
    from bertexp.inspect.subject import Subject

    saved = find_saved(composed.run) if composed.run else None
    if saved and saved.run:
        composed = as_recorded(composed, saved.run, HydraConfig.get().overrides.task)
    subject = Subject(parse(composed, InspectConfig), saved)
    named = written_keys(HydraConfig.get().overrides.task)
    own = ("family", "model", "tokenizer") if saved else ()
    refuse_unread(dict.fromkeys(named, COMMAND_LINE), composed, InspectConfig, own)
    for number, topic in enumerate(subject.config.what):
        if number:
            print()
        TOPICS[topic](subject)
    _hand_over(subject)


def _hand_over(subject: Subject) -> None:
    if not subject.files:
        return
    from bertexp.tracking.trackers import log_beside

    for path in subject.files:
        print(path)
    saved = subject.saved
    about = str(saved.run or saved.source) if saved else subject.config.model.name
    location = log_beside(
        subject.config.tracker,
        job_type="inspect",
        section="inspection",
        about=Path(about).name,
        pictures=subject.files,
        root=Path("outputs"),
    )
    if location:
        print(location)


if __name__ == "__main__":
    main()
