"""Pages made whenever the documentation is built (a hook of MkDocs): from code and notebooks."""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from types import FunctionType
from typing import Any

from hydra import compose, initialize_config_dir
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter
from omegaconf import OmegaConf

import bertexp
from bertexp import metrics
from bertexp.api.comparison import Comparison
from bertexp.api.run import Run
from bertexp.config import conf_dir, own_keys
from bertexp.evaluation import EVALUATORS
from bertexp.help import comments_of, explained
from bertexp.inspect.attention import Attention
from bertexp.inspect.examples import MaskedText
from bertexp.keys import ABOUT, flattened
from bertexp.objectives import OBJECTIVES
from bertexp.predict.results import Prediction

CONF = conf_dir()
NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
# Commands with keys of their own.
COMMANDS = ("inspect", "evaluate", "finetune", "bench")
# Folders of `conf/` without options, and those whose options are overrides of other groups.
NO_GROUPS = ("hydra", "wandb")
STUDIES = ("experiment", "size", "search")
# Members that notebooks call.
NOT_OF_USERS = ("pictures", "saved", "of", "of_sweep", "maps", "title", "figures")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {"configuration": configuration(), "metrics": glossary(), "python": python()}
    for name, lines in pages.items():
        content = "\n".join(lines)
        files.append(File.generated(config, f"reference/{name}.md", content=content))
    for path in sorted(NOTEBOOKS.rglob("*.ipynb")):
        for place, written in notebook(path).items():
            files.append(File.generated(config, place, content=written))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return a page of `docs` with links to the pages of notebooks instead of their files."""
    return re.sub(r"\]\(\.\./((?:\.\./)?notebooks/[\w/]+)\.ipynb\)", r"](\1.md)", markdown)


def notebook(path: Path) -> dict[str, str | bytes]:
    """Return the page of a notebook and its pictures, by their places."""
    place = Path("notebooks") / path.relative_to(NOTEBOOKS).parent
    text, found = MarkdownExporter().from_filename(str(path), {"unique_key": path.stem})
    # The notebooks' links lead from their folder, beside docs.
    text = re.sub(r"(\]\([./]*)/docs/", r"\1/", text.replace(".ipynb)", ".md)"))
    pages = {f"{path.stem}.md": text, **found["outputs"]}
    return {(place / name).as_posix(): content for name, content in pages.items()}


def configuration() -> Iterator[str]:
    """Yield the page of all groups, options and keys, from the comments in ``conf/``."""
    yield "# Configuration keys\n"
    yield (
        "Every option and key, with its default. `group=option` chooses an option, `key=value` "
        "sets a key; `python -m bertexp --help masking` prints a group in the terminal. A setting "
        "that a run does not read is an error.\n"
    )
    common, main = explained(CONF / "config.yaml")[0], composed("config")
    groups = [path.name for path in sorted(CONF.iterdir()) if path.is_dir()]
    yield "## Top level\n"
    yield from keys({key: main[key] for key in common if key in main}, common)
    for group in (each for each in groups if each not in NO_GROUPS):
        yield f"## {group}\n"
        paths = sorted((CONF / group).glob("*.yaml"))
        about = [(f"`{group}={path.stem}`", description(path)) for path in paths]
        yield from table(("option", ""), about)
        if group not in STUDIES:
            yield from keys_of(group)
    for command in COMMANDS:
        yield f"## bertexp.{command}\n"
        comments = explained(CONF / f"{command}.yaml")[0]
        known = composed(command)
        names = [key for key in known if key in comments and key not in groups]
        # Those that it does not share with an experiment.
        own = {key: known[key] for key in names if key != "hydra" and key not in main}
        yield from keys(own, comments)


def description(path: Path) -> str:
    """Return what the beginning of a file is about."""
    comments, about = explained(path)
    return about or next(iter(comments.values()), "")


def composed(name: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        plain = OmegaConf.to_container(compose(name), resolve=False)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def keys_of(group: str) -> Iterator[str]:
    """Yield the table of a group's keys; defaults are those of its default option."""
    name = "finetune" if group == "finetune" else "config"
    with initialize_config_dir(str(CONF), version_base="1.3"):
        option = compose(name, return_hydra_config=True).hydra.runtime.choices[group]
    comments = {
        f"{place}.{field.name}": str(field.metadata.get(ABOUT, ""))
        for place, kind in own_keys().items()
        for field in fields(kind)
    }
    comments |= {f"{group}.{key}": text for key, text in comments_of(group, option).items()}
    values = composed(name)[group]
    # Those of one option alone come last.
    order = sorted(values, key=lambda key: f"{group}.{key}" in own_keys())
    yield from keys({group: {key: values[key] for key in order}}, comments)


def keys(values: Mapping[str, Any], comments: Mapping[str, str]) -> Iterator[str]:
    rows = []
    for key, value in flattened(values).items():
        # A comment above a key with keys below it is about all of them.
        parent = key.rpartition(".")[0]
        first = not any(row[0].startswith(f"`{parent}.") for row in rows)
        above = comments.get(parent, "") if first and "." in key else ""
        rows.append((f"`{key}`", default(value), f"{above} {comments.get(key, '')}"))
    yield from table(("key", "default", ""), rows)


def default(value: object) -> str:
    if isinstance(value, str) and value.startswith("${"):
        return "derived"
    if isinstance(value, str):
        return "required" if value == "???" else f"`{value}`"
    return f"`{json.dumps(value)}`"


def glossary() -> Iterator[str]:
    """Yield the page of the table of metrics."""
    for registry in (OBJECTIVES, EVALUATORS):
        registry.names()
    yield "# Metrics\n"
    yield (
        "The names in `metrics.jsonl`, `summary.json`, the trackers and the comparison. A name in "
        "which `*` stands for anything describes several; one that begins with `…` describes all "
        "that end with it, such as `eval/nsp_accuracy` and `finetune/rte/accuracy`. What follows "
        "`@` is a part of the bank: a mask rate, a slice, a kind of negatives.\n"
    )
    rows = []
    for name, row in sorted(metrics.METRICS.items(), key=lambda each: each[0].partition("@")[0]):
        better = {True: "lower", False: "higher", None: "—"}[row.lower_is_better]
        shown = name if "/" in name else f"…{name}"
        rows.append((f"`{shown}`", row.meaning, row.unit, better, interval(row)))
    yield from table(("name", "meaning", "unit", "better", "range"), rows)


def interval(row: metrics.Metric) -> str:
    low, high = (f"{bound:g}" for bound in (row.low, row.high))
    if math.isinf(row.low):
        return ""
    return f"at least {low}" if math.isinf(row.high) else f"{low} to {high}"


def python() -> Iterator[str]:
    """Yield the page of the names of ``import bertexp``, from their docstrings."""
    yield "# Python reference\n"
    yield "Signatures and docstrings.\n"
    for name in ("run", "sweep", "load", "compare", "inspect"):
        yield from documented(f"bertexp.{name}", getattr(bertexp, name))
    for kind in (Run, Comparison, Prediction, MaskedText, Attention):
        yield from documented(kind.__name__, kind)
        for name, member in vars(kind).items():
            is_shown = isinstance(member, FunctionType | property | cached_property)
            if is_shown and not name.startswith("_") and name not in NOT_OF_USERS:
                yield from documented(f"{kind.__name__}.{name}", member)
    yield from documented("bertexp.UserError", bertexp.UserError)


def documented(name: str, member: Any) -> Iterator[str]:
    yield f"## `{name}`\n"
    if inspect.isfunction(member):
        plain = re.sub(r"""(: |-> )(['"])(.*?)\2""", r"\1\3", str(inspect.signature(member)))
        signature = re.sub(r"\(self(, )?", "(", plain)
        yield f"`{name}{signature}`\n"
    for part in (inspect.getdoc(member) or "").replace("``", "`").split("\n\n"):
        title, *items = part.split("\n")
        if not title.endswith(":") or not items:
            yield f"{part}\n"
            continue
        yield f"*{title}*\n"
        # A line that is indented further continues the item above it.
        yield from (re.sub(r"^    (?=\S)", "- ", item) for item in items)
        yield ""


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if rows:
        yield f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}"
        yield from (f"| {' | '.join(map(cell, row))} |" for row in rows)
        yield ""


def cell(text: str) -> str:
    plain = re.sub(r"\s*\n\s*", "<br>", text.strip().replace("<", "&lt;"))
    # No emphasis by the signs of a formula.
    return re.sub(r"([|*])", r"\\\1", plain) if not plain.startswith("`") else plain
