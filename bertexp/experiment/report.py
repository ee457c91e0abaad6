"""What a run says on the terminal: the plan before, the results after."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bertexp.console import listed as listed
from bertexp.console import show as show
from bertexp.data.tokens.unknown import unknown_share
from bertexp.masking.audit import LONGEST_RUN, Audit
from bertexp.metrics import describe, known_to, margin
from bertexp.objectives.slices import SLICE_PREFIX, SLICES
from bertexp.pairs.shortcuts import FEATURES
from bertexp.tracking.progress import clock
from bertexp.training.rates import default_rate, explained

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import BertConfig

    from bertexp.config import Config
    from bertexp.experiment.prepare import Data
    from bertexp.masking.config import MaskingConfig
    from bertexp.training.keeper import Keeper
    from bertexp.training.state import TrainState


def plan(
    config: Config, data: Data, keeper: Keeper, accelerator: Accelerator, steps: int, seconds: float
) -> RenderableType:
    """Return what a run is about to do."""
    sizes = data.corpus.sizes
    train, validation = sizes["train"], sizes["validation"]
    trainer, bert = config.trainer, keeper.model.config
    assert config.optimizer.lr is not None
    chosen = default_rate(config.model.pretrained, bert.hidden_size)
    rate = explained(config.optimizer.lr, chosen)
    source = config.model.pretrained or f"{config.model.name}, from scratch"
    tokens, tokenizer = data.tokens["train"], data.tokenizer
    unknown = unknown_share(tokens.counts(tokenizer.vocab_size), tokenizer)
    # No step has more than an epoch.
    size = min(trainer.batch_size, len(data.examples))
    passes = min(trainer.gradient_accumulation_steps, -(-len(data.examples) // size))
    batch = _counted(size, "example") + f" × {passes}" * (passes > 1)
    rows = {
        "corpus": f"{config.dataset.name}{f' ({data.corpus.source})' * bool(data.corpus.source)}"
        f"{', streamed; its head' * config.dataset.streaming}: "
        f"{_counted(train.documents, 'document')}{', parts of one,' * data.corpus.parted} of "
        f"{_counted(train.paragraphs, 'paragraph')}, {train.characters / 1e6:.1f} MB; "
        f"{validation.documents:,} for validation",
        "tokens": f"{len(tokens.tokens):,}, {unknown:.2%} unknown; vocabulary of "
        f"{tokenizer.vocab_size:,} ({config.tokenizer.name})",
        "task": f"{config.task.name}: {len(data.examples):,} examples of up to "
        f"{config.task.max_length} tokens",
    }
    if "masked" in data.task.heads:
        replace = config.masking.replace
        shares = "/".join(f"{100 * s:g}" for s in (replace.mask, replace.random, replace.keep))
        rows["masking"] = f"{config.masking.strategy}, {_rate(config.masking)}, replaced {shares}"
    rows |= {
        "model": f"{source}: {bert.num_hidden_layers} layers of {bert.hidden_size}, "
        f"{keeper.model.num_parameters():,} parameters{_dropout(bert)}",
        "steps": f"{steps:,} of {batch}, learning rate {rate} ({config.scheduler.name})",
        "hardware": f"{accelerator.device.type}, {_precision(accelerator)}"
        f"{', compiled' * config.hardware.compile}",
        "time": f"about {clock(seconds)} of training",
    }
    return Group("", listed(rows), "")


def evaluation_line(step: int | None, metrics: dict[str, float]) -> str:
    """Return an evaluation in one line; ``step`` is None where it is not known."""
    names = sorted(
        (name for name in metrics if describe(name).line),
        key=lambda name: not describe(name).lower_is_better,
    )
    values = (f"{name.removeprefix('eval/')} {metrics[name]:.3f}" for name in names)
    return " · ".join((*([] if step is None else [f"step {step}"]), *values))


def results(
    metrics: dict[str, float],
    yardsticks: dict[str, float],
    optimum: dict[str, float],
    details: Sequence[RenderableType],
    state: TrainState | None,
    answered: Mapping[str, int],
    before: dict[str, float] | None = None,
) -> RenderableType:
    """Return the evaluation beside the one before the first step, the yardsticks and the optimum.

    Columns without a figure are left out. What evaluators have to show beside comes below.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    after = ""
    if state:
        after = f"after {state.step:,} step{'s' * (state.step != 1)}, {clock(state.seconds)}"
    table.add_column(after)
    beside = {"before": before, "model": metrics, "yardstick": yardsticks, "optimum": optimum}
    columns = {name: known for name, known in beside.items() if known}
    for name in columns:
        table.add_column(name, justify="right")
    for name in metrics:
        if not describe(name).results:
            continue
        known = (column.get(name) for column in columns.values())
        table.add_row(name, *("" if value is None else f"{value:.3f}" for value in known))
    pairs = "eval/nsp_accuracy"
    known_pairs = known_to(pairs, metrics.get(pairs, math.nan), answered)
    told = "Yardstick: the best that can be done without looking at the input."
    told += f"\n{pairs} by its pairs (Wilson): 95% {known_pairs}" * bool(known_pairs)
    note = Text(told, "dim")
    parts = (*_slices(metrics), *_negatives(metrics, answered), *details)
    return Group("", table, note, "", *parts)


def _negatives(metrics: dict[str, float], answered: Mapping[str, int]) -> list[RenderableType]:
    """Return the accuracy at each kind of negatives beside what trivial features reach there."""
    kinds = [name.partition("@")[2] for name in metrics if name.startswith("eval/nsp_loss@")]
    if not kinds:
        return []
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("negatives")
    for name in ("loss", "accuracy", "length", "overlap", "position", "all three"):
        table.add_column(name, justify="right")
    for kind in kinds:
        columns = ("loss", "accuracy", *(f"shortcut{each}" for each in FEATURES), "shortcut")
        table.add_row(kind, *(f"{metrics[f'eval/nsp_{name}@{kind}']:.3f}" for name in columns))
    count = answered[f"eval/nsp_accuracy@{kinds[0]}"]
    note = Text(
        f"Of {count:,} pairs each: an accuracy is known to ± {margin(0.5, count):.3f} (95%). The "
        "last four: accuracy of a logistic regression on trivial features.",
        "dim",
    )
    return [table, note, ""]


def _slices(metrics: dict[str, float]) -> list[RenderableType]:
    """Return the loss by kind of masked token, a line for each way to part them; or nothing."""
    grid = Table.grid(padding=(0, 2))
    for way, names in SLICES.items():
        shown = [(name, metrics.get(SLICE_PREFIX + name)) for name in names]
        cells = [f"{name} {value:.3f}" for name, value in shown if value is not None]
        if cells:
            grid.add_row(f"eval/loss by {way}", *cells)
    return [grid, ""] if grid.row_count else []


def remarks(found: Sequence[str]) -> RenderableType:
    """Return what is to be known about a result, a paragraph each; see ``outcome.remarks``."""
    return Group(*(Text(f"! {one}\n", "yellow") for one in found))


def masking_audit(found: Audit) -> RenderableType:
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


def places(folder: Path, keeper: Keeper, tracker: str | None) -> RenderableType:
    """Return where everything was written."""
    rows = {"run": str(folder), "model": str(folder / "model")}
    if keeper.best and keeper.best != "model":
        rows["model"] += " (of the last step)"
        rows["best"] = f"{folder / keeper.best} (eval/loss {keeper.loss:.3f})"
    lines = [
        # Each command in one line, however long: to be copied.
        Text.assemble((label.ljust(9), "bold"), line, no_wrap=True, overflow="ignore")
        for label, line in zip_longest(["tracker"], (tracker or "").splitlines(), fillvalue="")
        if line
    ]
    return Group(listed(rows), *lines)


def _rate(config: MaskingConfig) -> str:
    """Return the mask rate, its course and the rate of corruption, as far as they differ."""
    text = f"{config.prob:.3g}"
    if config.schedule.end is not None:
        text += f" to {config.schedule.end:.3g} ({config.schedule.name})"
    if config.corrupt_prob is not None:
        text += f", corrupted {config.corrupt_prob:.3g}"
    return text


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _dropout(bert: BertConfig) -> str:
    rates = dict.fromkeys((bert.hidden_dropout_prob, bert.attention_probs_dropout_prob))
    return f", dropout {' and '.join(f'{rate:g}' for rate in rates)}" if any(rates) else ""


def _precision(accelerator: Accelerator) -> str:
    return "fp32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision
