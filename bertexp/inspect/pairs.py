"""Sentence pairs as a model is trained on them."""

from __future__ import annotations

from itertools import zip_longest

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.experiment import report
from bertexp.experiment.prepare import prepare_training
from bertexp.inspect import TOPICS
from bertexp.inspect.subject import Subject
from bertexp.objectives.blocks import MaskedExamples
from bertexp.pairs import NEXT
from bertexp.pairs.examples import PairExamples
from bertexp.validation import UserError

EXAMPLES = 10
# Of a segment; what is longer is cut.
CHARACTERS = 240


@TOPICS.register("pairs")
def show_pairs(subject: Subject) -> None:
    """Print ten pairs of the first epoch, of each kind alike, and the share of each kind."""
    config = subject.config
    tokenizer, examples = prepare_training(config, subject.tokenizer if subject.saved else None)
    text = examples.text if isinstance(examples, MaskedExamples) else examples
    if not isinstance(text, PairExamples):
        raise UserError(f"what=pairs: task={config.task.name} has no pairs; try task=nsp.")
    shares = text.shares(epoch=0)
    lines = [
        Text.assemble((f"{kind:22}", _style(kind)), f"{share:6.1%}")
        for kind, share in shares.items()
    ]
    title = Text(f"{len(text):,} pairs an epoch", "bold")
    report.show(Group(*_pairs(text, tokenizer), title, *lines))


def _pairs(examples: PairExamples, tokenizer: Tokenizer) -> list[RenderableType]:
    """Return some pairs with their labels, the kinds in turn."""
    strata, kinds = examples.strata(0), examples.drawer.kinds
    each = -(-EXAMPLES // len(kinds))
    numbers = [np.flatnonzero(strata == kind)[:each] for kind in range(len(kinds))]
    in_turn = [one for turn in zip_longest(*numbers) for one in turn if one is not None]
    chosen = np.array(in_turn[:EXAMPLES])
    batch = examples.batch(0, chosen)
    assert batch.token_type_ids_BL is not None
    blocks: list[RenderableType] = []
    for row, number in enumerate(chosen):
        kind = kinds[strata[number]]
        label = "0, follows" if kind == NEXT else "1, does not follow"
        blocks.append(Text.assemble((kind, _style(kind)), (f"  label {label}", "dim")))
        ids, segments = batch.input_ids_BL[row], batch.token_type_ids_BL[row]
        grid = Table.grid(padding=(0, 2))
        for name, segment in (("A", 0), ("B", 1)):
            written = tokenizer.backend.decode(ids[segments == segment].tolist())
            short = written if len(written) <= CHARACTERS else f"{written[: CHARACTERS - 1]}…"
            grid.add_row(f"  {name}", Text(short))
        blocks += [grid, ""]
    return blocks


def _style(kind: str) -> str:
    return "bold green" if kind == NEXT else "bold red"
