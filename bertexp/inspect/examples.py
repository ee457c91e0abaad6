"""Training examples as a model sees them: masked texts with an audit, and sentence pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, zip_longest

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from bertexp.console import aligned, listed, show
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.display import Shown
from bertexp.experiment.prepare import prepare_examples
from bertexp.inspect import TOPICS
from bertexp.inspect.subject import Subject
from bertexp.masking.masker import Masked
from bertexp.objectives.audit import LONGEST_RUN, Audit, audit, masked_batches
from bertexp.objectives.examples import Examples, MaskedExamples
from bertexp.objectives.formats import RowExamples
from bertexp.objectives.pair_examples import PairExamples
from bertexp.pairs import NEXT
from bertexp.validation import UserError

EXAMPLES = 10
# The tokens shown of a masked example, and of a segment of a pair.
TOKENS, CHARACTERS = 48, 240

# Each kind of token: its marks, which show it without colours, its style, and its meaning.
KINDS = {
    "mask": ("[", "]", "bold yellow", "predicted, the mask token in its place"),
    "random": ("{", "}", "bold red", "predicted, a random token in its place: {seen<written}"),
    "keep": ("(", ")", "bold green", "predicted, kept"),
    "corrupted": ("<", ">", "magenta", "not predicted, replaced: <seen<written>"),
}


@dataclass(frozen=True, repr=False)
class MaskedText(Shown):
    """A text with several masks, each drawn anew.

    Attributes:
        ids_BL: the text's ids, once for each mask; its special tokens are never masked.
    """

    tokenizer: Tokenizer
    ids_BL: np.ndarray
    masked: Masked

    @property
    def tokens(self) -> list[str]:
        """The text before it is masked."""
        return [self.tokenizer.shown[index] for index in self.ids_BL[0]]

    @property
    def seen(self) -> list[list[str]]:
        """What a model sees, for each mask."""
        return [[self.tokenizer.shown[index] for index in row] for row in self.masked.input_ids_BL]

    @property
    def predicted(self) -> np.ndarray:
        """Where a model has to predict the token of the text, for each mask."""
        return self.masked.predicted_BL

    def __rich__(self) -> RenderableType:
        masked = self.masked
        share = f"{masked.predicted_BL.sum()} of {masked.maskable} tokens"
        sums = f"predicted in {len(self.ids_BL)} draws: {share}, {masked.prob:.3g} requested"
        lines = _lines(self.ids_BL, masked, self.tokenizer, len(self.ids_BL[0]))
        return Group(*lines, _legend(), "", Text(sums))


@TOPICS.register("masking", reads=("text", "text_b"))
def show_masking(subject: Subject) -> None:
    """Print a text with ten different masks, or ten training examples, and the audit."""
    config = subject.config
    if config.text is not None or config.text_b is not None:
        show(mask_text(subject))
        return
    tokenizer, examples = _prepare(subject)
    ids_BL, masked = next(masked_batches(examples, 1, EXAMPLES))
    found = audit(examples)
    *_, text = examples.layers()
    figures, most = _figures(found), TOKENS
    if isinstance(text, RowExamples):
        # Documents may begin anywhere in a row.
        most = config.task.max_length
        mean, between = text.figures()["documents"], tokenizer.roles.sep
        figures["documents in a row"] = f"{mean:.2f} on average, {between} between them"
    lines = _lines(ids_BL, masked, tokenizer, most)
    show(Group(*lines, _legend(), "", listed(figures)))
    found.warn()


def mask_text(subject: Subject, draws: int = EXAMPLES) -> MaskedText:
    """Return the subject's text with so many masks."""
    tokenizer, examples = _prepare(subject)
    subject.input.check_length(subject.config.task.max_length)
    ids_BL = np.tile(subject.input.ids, (draws, 1))
    return MaskedText(tokenizer, ids_BL, examples.masker.mask(ids_BL, np.arange(draws), epoch=0))


def _prepare(subject: Subject) -> tuple[Tokenizer, MaskedExamples]:
    tokenizer, examples = _examples(subject)
    if not isinstance(examples, MaskedExamples):
        raise UserError(
            f"what=masking: task={subject.config.task.name} masks nothing; try task=mlm."
        )
    return tokenizer, examples


def _examples(subject: Subject) -> tuple[Tokenizer, Examples]:
    tokenizer = subject.tokenizer if subject.saved else None
    task, examples = prepare_examples(subject.config, tokenizer)
    return task.writer.tokenizer, examples


def _legend() -> Text:
    return Text("\n").join(
        Text.assemble((f"{before}token{after}", style), f"  {meaning}")
        for before, after, style, meaning in KINDS.values()
    )


def _figures(found: Audit) -> dict[str, str]:
    total = max(sum(found.runs.values()), 1)
    longest = max(found.runs.values(), default=1)
    rows = {
        "requested rate": f"{found.requested:.2%}",
        "realised rate": f"{found.realised:.2%} ± {found.error:.2%}",
        "predicted become": f"{found.mask:.1%} masked, {found.random:.1%} random, "
        f"{found.keep:.1%} kept",
        "only corrupted": f"{found.only_corrupted:.2%} of the tokens",
        "whole words": f"{found.whole_words:.1%} of the words with a prediction",
        "without a prediction": f"{found.empty:,} of {found.sequences:,} sequences",
        "runs of predicted": f"{found.mean_run:.2f} tokens on average",
    }
    bars = {
        f"  {size}{'+' if size == LONGEST_RUN else ''}": f"{count / total:6.1%} "
        + "▇" * round(36 * count / longest)
        for size, count in found.runs.items()
    }
    return rows | bars


def _lines(
    ids_BL: np.ndarray, masked: Masked, tokenizer: Tokenizer, most: int
) -> list[RenderableType]:
    lines: list[RenderableType] = []
    for written_L, seen_L, predicted_L in zip(
        ids_BL, masked.input_ids_BL, masked.predicted_BL, strict=True
    ):
        around = (tokenizer.pad_id, tokenizer.closing_id)
        end = 1 + min(most, int(np.flatnonzero(~np.isin(written_L, around))[-1]))
        inside = (each[1:end].tolist() for each in (written_L, seen_L, predicted_L))
        tokens: Iterator[tuple[int, int, bool]] = zip(*inside, strict=True)
        line = Text()
        for kind, alike in groupby(tokens, lambda token: _kind(tokenizer.mask_id, *token)):
            if kind is None:
                # Joined, as several may form one character.
                line.append(tokenizer.join([written for written, _, _ in alike]))
                continue
            for written, seen, _ in alike:
                line.append(" " if tokenizer.has_space_V[written] else "")
                line.append(*_marked(kind, written, seen, tokenizer))
        # Without the space before the first.
        lines += [line[line.plain.startswith(" ") :], ""]
    return lines


def _marked(kind: str, written: int, seen: int, tokenizer: Tokenizer) -> tuple[str, str]:
    before, after, style, _ = KINDS[kind]
    text = tokenizer.bare_tokens[written]
    if written != seen and seen != tokenizer.mask_id:
        text = f"{tokenizer.shown[seen]}<{text}"
    return f"{before}{text}{after}", style


def _kind(mask_id: int, written: int, seen: int, predicted: bool) -> str | None:
    """Return what was done to a token, a key of ``KINDS``, or None for nothing."""
    if not predicted:
        return None if written == seen else "corrupted"
    if seen == mask_id:
        return "mask"
    return "keep" if written == seen else "random"


@TOPICS.register("pairs")
def show_pairs(subject: Subject) -> None:
    """Print ten pairs of the first epoch, equally many of each kind, and the kinds' shares."""
    config = subject.config
    tokenizer, examples = _examples(subject)
    text = examples.text if isinstance(examples, MaskedExamples) else examples
    if not isinstance(text, PairExamples):
        raise UserError(f"what=pairs: task={config.task.name} has no pairs; try task=nsp.")
    shares = [
        Text.assemble((f"{kind:22}", _style(kind)), f"{share:6.1%}")
        for kind, share in text.shares(epoch=0).items()
    ]
    title = Text(f"{len(text):,} pairs an epoch", "bold")
    show(Group(*_pairs(text, tokenizer), title, *shares))


def _pairs(examples: PairExamples, tokenizer: Tokenizer) -> list[RenderableType]:
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
        lines = []
        for name, segment in (("A", 0), ("B", 1)):
            written = tokenizer.backend.decode(ids[segments == segment].tolist())
            short = written if len(written) <= CHARACTERS else f"{written[: CHARACTERS - 1]}…"
            lines.append((f"  {name}", short))
        blocks += [aligned(lines), ""]
    return blocks


def _style(kind: str) -> str:
    return "bold green" if kind == NEXT else "bold red"
