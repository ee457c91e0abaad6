"""The model card of an exported model: its facts, its metrics and how to load it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bertexp.console import compact, number
from bertexp.experiment import report
from bertexp.experiment.base import Prepared
from bertexp.experiment.summary import versions
from bertexp.families.base import LABEL, MASKED, Family
from bertexp.metrics import describe
from bertexp.training.state import TrainState

TRAINED_WITH = ("bertexp", "transformers")
# The Hugging Face Hub reads the YAML header.
CARD = """\
---
library_name: transformers
pipeline_tag: {pipeline}
tags: [bertexp, {kind}]
---

# {name}: {task}

{facts}

## Evaluation

{figures}

The yardstick is the best that can be done without looking at the input, the optimum the best that any model can do where that is known.

## Use

```python
from transformers import {imports}

folder = "."  # where this file is
tokenizer = AutoTokenizer.from_pretrained(folder)
model = {name}.from_pretrained(folder)
{use}
```
"""  # noqa: E501
# The first one that the model has a head for is used.
PIPELINES = {MASKED: "fill-mask", LABEL: "text-classification"}


def model_card(
    task: str,
    seed: int,
    prepared: Prepared,
    state: TrainState,
    metrics: Mapping[str, float],
    optimum: Mapping[str, float],
) -> str:
    """Return a card in Markdown, with facts of the run only."""
    model = prepared.model
    heads, kind = Family.of(model).heads, model.config.model_type
    if any(head.encodes for head in prepared.heads):
        # Other tools would predict from other states than those it was trained to predict from.
        model, heads = model.base_model, frozenset()
    pipeline = next((PIPELINES[each] for each in PIPELINES if each in heads), "feature-extraction")
    imports, use = [type(model).__name__, "AutoTokenizer"], _use(pipeline, prepared)
    if own := next(filter(None, (head.usage(kind) for head in prepared.heads)), None):
        pipeline, use = own
    else:
        imports.append("pipeline")
    facts = {
        **prepared.facts,
        "model": f"{prepared.facts['model']}, {model.num_parameters():,} parameters",
        "budget": f"{report.spent(state)}, {compact(state.tokens)} tokens",
        "seed": str(seed),
        "trained with": ", ".join(f"{name} {versions()[name]}" for name in TRAINED_WITH),
    }
    return CARD.format(
        pipeline=pipeline,
        kind=kind,
        name=type(model).__name__,
        task=task,
        facts=_table(("", ""), facts.items()),
        figures=_figures(metrics, prepared.yardsticks, optimum),
        imports=", ".join(imports),
        use=use,
    )


def _use(pipeline: str, prepared: Prepared) -> str:
    mask = prepared.tokenizer.roles.mask
    text = f"A text with a {mask} in it." if pipeline == PIPELINES[MASKED] else "A text."
    return f'pipeline("{pipeline}", model=model, tokenizer=tokenizer)("{text}")'


def _figures(
    metrics: Mapping[str, float], yardsticks: Mapping[str, float], optimum: Mapping[str, float]
) -> str:
    columns = {"model": metrics, "yardstick": yardsticks, "optimum": optimum}
    rows = [
        (f"`{name}`", *(number(column.get(name)) for column in columns.values()))
        for name in metrics
        if describe(name).results
    ]
    return _table(("", *columns), rows)


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [tuple(heads), *map(tuple, rows)]
    lines.insert(1, tuple("---" for _ in lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
