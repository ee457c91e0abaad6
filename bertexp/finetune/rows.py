"""Rows of labelled data as texts and labels."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from bertexp.data.corpora.columnar import Columns, Row
from bertexp.finetune.config import LabelledConfig
from bertexp.validation import UserError

KEYS = ("finetune.text", "finetune.text_b", "finetune.label")
# A column in a text that is made of several.
_PART = r"\{(\w+)\}"


@dataclass
class Split:
    """Labelled texts as they were written.

    Attributes:
        source: the file or split, for error messages.
        texts_b: the second texts; empty unless there are pairs.
        labels: names of classes or scores; empty if they are secret.
    """

    source: str
    texts: list[str] = field(default_factory=list)
    texts_b: list[str] = field(default_factory=list)
    labels: list[str] | list[float] = field(default_factory=list)


def wanted_columns(config: LabelledConfig, labelled: bool) -> Columns:
    others = [config.text_b, config.label if labelled else None]
    pairs = [(column, KEYS[0]) for column in _parts(config.text)]
    return pairs + [(c, key) for c, key in zip(others, KEYS[1:], strict=True) if c is not None]


def _parts(text: str) -> list[str]:
    """Return the columns that make the first text: one, or those in braces."""
    return re.findall(_PART, text) or [text]


def filled(source: str, rows: Iterable[Row], config: LabelledConfig, labelled: bool) -> Split:
    """Return rows, each with the values of ``wanted_columns``, as texts and labels."""
    is_pair, parts = config.text_b is not None, len(_parts(config.text))
    split = Split(source)
    labels: list[Any] = []
    for number, row in enumerate(rows, start=1):
        place = f"{source}, row {number}"
        for value in row[: parts + is_pair]:
            if not isinstance(value, str):
                raise UserError(f"{place}: has {_shown(value)} where a text should be.")
        split.texts.append(_first_text(config.text, row))
        if is_pair:
            split.texts_b.append(row[parts])
        if labelled:
            labels.append(_label(row[-1], config, place))
    split.labels = labels
    if not split.texts:
        raise UserError(f"{source}: has no rows; at least one is needed.")
    return split


def _first_text(text: str, row: Row) -> str:
    """Return the first columns of a row in their places in ``text``, or the only one."""
    values = iter(row)
    return re.sub(_PART, lambda _: next(values), text) if re.search(_PART, text) else row[0]


def _label(value: Any, config: LabelledConfig, place: str) -> str | float:
    if value is None or value == "":
        raise UserError(f"{place}: has no label.")
    if config.kind == "classification":
        # A table of numbers may have read 1 as 1.0.
        whole = isinstance(value, float) and value.is_integer()
        words = [str(int(value) if whole else value)]
        if isinstance(value, bool):
            # As JSON writes it, as Python does, or the number that a task has for it.
            words = [str(value).lower(), str(value), str(int(value))]
        return next((word for word in words if word in (config.labels or words)), words[0])
    try:
        score = float(value)
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):
        raise UserError(
            f"{place}: the score is {_shown(value)} where finetune.kind=regression needs a number."
        )
    return score


def _shown(value: Any) -> str:
    return "nothing" if value is None else f"'{value}'"
