"""The model card of an exported model: its facts, its metrics and how to load it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bertexp.console import compact, number
from bertexp.experiment import report
from bertexp.experiment.base import Prepared
from bertexp.experiment.summary import versions
from bertexp.families.base import LABEL, MASKED, Family
from bertexp.keys import flattened
from bertexp.metrics import describe
from bertexp.objectives.base import Reference
from bertexp.training.state import TrainState

TRAINED_WITH = ("bertexp", "git_commit", "torch", "transformers")
# The Hugging Face Hub reads the YAML header.
CARD = """\
---
library_name: transformers
pipeline_tag: {pipeline}
tags: [bertexp, {kind}]
---

# {name}: {task}

Trained by bertexp in an experiment: its figures show how its settings compare with others, not how good such a model can be.

{facts}

## Evaluation

{figures}

Measured on held-out documents, on examples that are the same for every run on this corpus. The yardstick is the best that can be done without looking at the input, the optimum the best that any model can do where that is known.

## Use

```python
from transformers import {imports}

folder = "."  # where this file is
tokenizer = AutoTokenizer.from_pretrained(folder)
model = {name}.from_pretrained(folder)
{use}
```
{embeddings}
## Citation

Beside the papers of the objective and of the corpus:

```bibtex
@software{{bertexp,
  title = {{bertexp: experiments on BERT's pre-training objectives}},
  version = {{{version}}}
}}
```
"""  # noqa: E501
# For encoders, without what only a head of their own adds.
EMBEDDINGS = """
The mean of the last hidden states as an embedding of a text, with `sentence-transformers`:

```python
from sentence_transformers import SentenceTransformer

print(SentenceTransformer(folder).encode("A text."))
```
"""
# The first one that the model has a head for is used.
PIPELINES = {MASKED: "fill-mask", LABEL: "text-classification"}


def model_card(
    task: str, seed: int, prepared: Prepared, state: TrainState, metrics: Mapping[str, float]
) -> str:
    """Return a card in Markdown, with facts of the run only."""
    model = prepared.model
    heads, kind = Family.of(model).heads, model.config.model_type
    own = next(filter(None, (head.usage(kind) for head in prepared.heads)), None)
    if own is None and any(head.encodes for head in prepared.heads):
        # Other tools would predict from other states than those it was trained to predict from.
        model, heads = model.base_model, frozenset()
    pipeline = next((PIPELINES[each] for each in PIPELINES if each in heads), "feature-extraction")
    imports, use = [type(model).__name__, "AutoTokenizer"], _use(pipeline, prepared)
    if own:
        pipeline, use = own
    else:
        imports.append("pipeline")
    budget = f"{report.budget_text(state)}, {compact(state.tokens)} tokens"
    known = {
        **prepared.facts,
        "model": f"{prepared.facts['model']}, {model.num_parameters():,} parameters",
    }
    return CARD.format(
        pipeline=pipeline,
        kind=kind,
        name=type(model).__name__,
        task=task,
        facts=_table(("", ""), (known | _origin(prepared, seed, budget)).items()),
        figures=_figures(metrics, prepared.reference),
        imports=", ".join(imports),
        use=use,
        embeddings="" if own else EMBEDDINGS,
        version=versions()["bertexp"],
    )


def _origin(prepared: Prepared, seed: int, budget: str) -> dict[str, str]:
    prints, tools = flattened(prepared.fingerprints), versions()
    return {
        "budget": budget,
        "seed": str(seed),
        "fingerprints": ", ".join(f"{name} {digits}" for name, digits in prints.items()),
        "trained with": ", ".join(f"{name} {tools[name]}" for name in TRAINED_WITH if tools[name]),
    }


def _use(pipeline: str, prepared: Prepared) -> str:
    mask = prepared.tokenizer.roles.mask
    text = f"A text with a {mask} in it." if pipeline == PIPELINES[MASKED] else "A text."
    return f'print(pipeline("{pipeline}", folder)("{text}"))'


def _figures(metrics: Mapping[str, float], known: Reference) -> str:
    columns = {"model": metrics, "yardstick": known.yardsticks, "optimum": known.optimum}
    rows = [
        (f"`{name}`", *(number(column.get(name)) for column in columns.values()), row.meaning)
        for name in metrics
        if (row := describe(name)).results
    ]
    return _table(("", *columns, ""), rows)


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [tuple(heads), *map(tuple, rows)]
    lines.insert(1, tuple("---" for _ in lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
