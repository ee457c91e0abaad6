"""Masked examples, and the measured figures of the masks."""

from __future__ import annotations

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from bertexp.console import listed
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.experiment import report
from bertexp.experiment.prepare import prepare_training
from bertexp.inspect import TOPICS
from bertexp.inspect.subject import Subject
from bertexp.masking.audit import LONGEST_RUN, Audit, audit, masked_batches
from bertexp.masking.masker import Masked
from bertexp.objectives.blocks import MaskedExamples
from bertexp.validation import UserError

EXAMPLES = 10
TOKENS = 48

# Each kind of token: its marks, which also tell it apart where there is no colour, its style,
# and what it is.
KINDS = {
    "mask": ("[", "]", "bold yellow", "predicted, the mask token in its place"),
    "random": ("{", "}", "bold red", "predicted, a random token in its place: {seen<written}"),
    "keep": ("(", ")", "bold green", "predicted, kept"),
    "corrupted": ("<", ">", "magenta", "not predicted, replaced: <seen<written>"),
}


@TOPICS.register("masking", reads=("text", "text_b"))
def show_masking(subject: Subject) -> None:
    """Print a text ten times, each masked anew; or ten training examples, and the audit."""
    config = subject.config
    tokenizer, examples = prepare_training(config, subject.tokenizer if subject.saved else None)
    if not isinstance(examples, MaskedExamples):
        raise UserError(f"what=masking: task={config.task.name} masks nothing; try task=mlm.")
    legend = Text("\n").join(
        Text.assemble((f"{before}token{after}", style), f"  {meaning}")
        for before, after, style, meaning in KINDS.values()
    )
    if config.text is not None or config.text_b is not None:
        subject.input.must_fit(config.task.max_length)
        ids_BL = np.tile(subject.input.ids, (EXAMPLES, 1))
        masked = examples.masker.mask(ids_BL, np.arange(EXAMPLES), epoch=0)
        share = f"{masked.predicted_BL.sum()} of {masked.maskable} tokens"
        report.show(Group(*_lines(ids_BL, masked, tokenizer, len(ids_BL[0])), legend, ""))
        report.show(Text(f"predicted in {EXAMPLES} draws: {share}, {masked.prob:.3g} asked for"))
        return
    ids_BL, masked = next(masked_batches(examples, 1, EXAMPLES))
    found = audit(examples)
    report.show(Group(*_lines(ids_BL, masked, tokenizer, TOKENS), legend, "", _figures(found)))
    found.warn()


def _figures(found: Audit) -> RenderableType:
    """Return the measured figures of a run's masks."""
    total = max(sum(found.runs.values()), 1)
    longest = max(found.runs.values(), default=1)
    rows = {
        "requested rate": f"{found.requested:.2%}",
        "realised rate": f"{found.realised:.2%} ± {found.error:.2%}",
        "predicted become": f"{found.mask:.1%} masked, {found.random:.1%} random, "
        f"{found.keep:.1%} kept",
        "only corrupted": f"{found.only_corrupted:.2%} of the tokens",
        "whole words": f"{found.whole_words:.1%} of the words with a prediction",
        "helped": f"{found.helped:,} of {found.sequences:,} sequences",
        "runs of predicted": f"{found.mean_run:.2f} tokens on average",
    }
    bars = {
        f"  {size}{'+' if size == LONGEST_RUN else ''}": f"{count / total:6.1%} "
        + "▇" * round(36 * count / longest)
        for size, count in found.runs.items()
    }
    return listed(rows | bars)


def _lines(
    ids_BL: np.ndarray, masked: Masked, tokenizer: Tokenizer, most: int
) -> list[RenderableType]:
    """Return the first ``most`` tokens of each example, as they were written, marked."""
    lines: list[RenderableType] = []
    for written_L, seen_L, predicted_L in zip(
        ids_BL, masked.input_ids_BL, masked.predicted_BL, strict=True
    ):
        line = Text()
        end = 1 + min(most, int((written_L != tokenizer.pad_id).sum()) - 2)
        for column in range(1, end):
            written, seen = int(written_L[column]), int(seen_L[column])
            kind = _kind(written, seen, bool(predicted_L[column]), tokenizer.mask_id)
            if column > 1 and not tokenizer.is_continuation_V[written]:
                line.append(" ")
            text = tokenizer.bare_tokens[written]
            if kind is None:
                line.append(text)
                continue
            before, after, style, _ = KINDS[kind]
            if written != seen and seen != tokenizer.mask_id:
                text = f"{tokenizer.tokens[seen]}<{text}"
            line.append(f"{before}{text}{after}", style)
        lines += [line, ""]
    return lines


def _kind(written: int, seen: int, predicted: bool, mask_id: int) -> str | None:
    """Return what was done to a token, a key of ``KINDS``, or None for nothing."""
    if not predicted:
        return None if written == seen else "corrupted"
    if seen == mask_id:
        return "mask"
    return "keep" if written == seen else "random"
