"""What ``--help`` prints: groups, keys and values, explained by the comments in ``conf/``.

Hydra's own help explains no key.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import chain
from pathlib import Path
from typing import Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf

from bertexp import plugins
from bertexp.arguments import composing
from bertexp.config import conf_dir, own_keys
from bertexp.keys import ABOUT
from bertexp.validation import require_choice

FLAGS = {"-h", "--help"}
WIDTH = 80
# Spaces before an item of a list in a comment.
ITEM = 3
# No configuration: files for `wandb sweep`.
_NO_GROUPS = (".", "hydra", "wandb")
# Groups that hold overrides, by a group of the configuration that they are about.
_OF = {"experiment": "task", "size": "task", "search": "finetune"}
_KEY = re.compile(r"( *)([\w.]+):(?: (.*?))??(?:\s+(#.*))?")
_SENTENCE = re.compile(r"(.*?[.!?])(?:\s+(?=[A-Z])|$)", re.DOTALL)


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Whether a command line has no option but ``--help``; others are left to Hydra."""
    options = {argument for argument in arguments if argument.startswith("-")}
    return bool(options) and options <= FLAGS


def help_text(config_name: str, arguments: Sequence[str], ignores: Sequence[str]) -> str:
    """Return the help of a command, or of one of its groups.

    Args:
        arguments: ``--help``, perhaps the name of a group or a key, and overrides.
        ignores: groups and keys that the command does not read.
    """
    given = [argument for argument in arguments if argument not in FLAGS]
    overrides = [argument for argument in given if "=" in argument or argument.startswith("~")]
    with composing():
        composed = compose(config_name, overrides, return_hydra_config=True)
    OmegaConf.set_struct(composed, False)
    for key in ignores:
        group, _, name = key.rpartition(".")
        (composed[group] if group else composed).pop(name, None)
    own, _ = explained(conf_dir() / f"{config_name}.yaml")
    keys = sorted(
        (str(key) for key in composed if key != "hydra"),
        key=lambda key: (isinstance(composed[key], DictConfig), key not in own),
    )
    groups = {
        group: options for group, options in _groups().items() if _OF.get(group, group) in composed
    }
    lines: list[str] = []
    for name in (argument for argument in given if argument not in overrides):
        group, _, key = name.rpartition(".")
        within = OmegaConf.select(composed, group) if group else None
        is_key = name in keys or (isinstance(within, DictConfig) and key in within)
        if not is_key:
            require_choice("--help", name, [*keys, *(each for each in groups if each not in keys)])
        lines += _options(name, groups.get(name, []))
        lines += _keys(composed, name, is_short=False) if is_key else []
    return "\n".join(lines or _overview(composed, groups, keys))


def _overview(
    composed: DictConfig, groups: Mapping[str, Sequence[str]], keys: Sequence[str]
) -> list[str]:
    """Return the lines of all groups with their options, and of all keys."""
    lines = [str(composed.hydra.help.header)]
    added = [f"+{group}=option" for group in _OF if group in groups]
    lines += [f"Groups: choose with {', '.join(['group=option', *added])}", ""]
    for group, options in groups.items():
        lines += _wrapped(f"{group}: {', '.join(options)}", "", "  ")
    lines += ["", "Keys: change a value with key=value"]
    example = "masking" if "masking" in groups else next(iter(groups))
    lines += [f"More about a group, its options or a key: --help {example}"]
    for key in keys:
        lines += ["", *_keys(composed, key, is_short=True)]
    return lines


def explained(path: Path) -> tuple[dict[str, str], str]:
    """Return the comment of each key of a YAML file, dotted, and the description of the file.

    A key's comment is above it or behind it; the description comes first, and ends with a blank
    line or the key ``name``.
    """
    comments: dict[str, str] = {}
    above: list[str] = []
    about: str | None = None
    parents: list[tuple[int, str]] = []
    last, column = "", -1
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.lstrip().startswith("#"):
            text = line.strip().lstrip("#")
            # An item of a list begins a line of its own; its further lines are indented more. So
            # does what follows an empty line.
            is_new = not text or len(text) - len(text.lstrip()) == ITEM
            text = "\n" * is_new + text.strip()
            if line.index("#") == column:
                comments[last] += f" {text}"
            elif not text.startswith("@package"):
                above.append(text)
        elif match := _KEY.fullmatch(line):
            if about is None and match[2] in ("name", "defaults"):
                about, above = " ".join(above), []
            indent = len(match[1])
            parents = [parent for parent in parents if parent[0] < indent]
            last = ".".join([*(name for _, name in parents), match[2]])
            parents.append((indent, match[2]))
            behind = [match[4].lstrip("# ")] if match[4] else []
            column = line.rindex("#", 0, line.index(match[4]) + 1) if match[4] else -1
            comments[last] = " ".join(above or behind)
            above = []
        elif not line.strip():
            if about is None and above:
                about = " ".join(above)
            above, column = [], -1
    return comments, about or ""


def comments_of(group: str, option: str) -> dict[str, str]:
    """Return the comments of a group's keys, from an option and those that it starts from."""
    path = _path(group, option)
    found: dict[str, str] = {}
    loaded: Any = OmegaConf.load(path)
    for base in loaded.get("defaults", []):
        if isinstance(base, str) and base != "_self_":
            found |= comments_of(group, base)
    return found | {key: text for key, text in explained(path)[0].items() if text}


def _roots() -> list[Path]:
    return [conf_dir(), *plugins.conf_folders()]


def _path(group: str, option: str) -> Path:
    paths = [root / group / f"{option}.yaml" for root in _roots()]
    return next((path for path in paths if path.exists()), paths[0])


def _groups() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    paths = (sorted(root.glob("*/*.yaml")) for root in _roots())
    for path in chain.from_iterable(paths):
        if (group := path.parent.name) not in _NO_GROUPS:
            found.setdefault(group, []).append(path.stem)
    return found


def _options(group: str, options: Sequence[str]) -> Iterator[str]:
    width = max(map(len, options), default=0) + 2
    for option in options:
        about = explained(_path(group, option))[1]
        yield from _wrapped(f"{group}={option:<{width}}{_first(about)}", "", "  ")
    if options:
        yield ""


def _keys(composed: DictConfig, key: str, *, is_short: bool) -> Iterator[str]:
    *within, name = key.split(".")
    group = key.partition(".")[0]
    option = composed.hydra.runtime.choices.get(group)
    comments = {
        f"{place}.{field.name}": str(field.metadata.get(ABOUT, ""))
        for place, kind in own_keys().items()
        for field in fields(kind)
    }
    comments |= explained(conf_dir() / "config.yaml")[0]
    if option:
        comments |= {f"{group}.{each}": text for each, text in comments_of(group, option).items()}
    # What a command changes in a group, it explains itself.
    own = explained(conf_dir() / f"{composed.hydra.job.config_name}.yaml")[0]
    comments |= {each: text for each, text in own.items() if text}
    parent = composed
    for depth, each in enumerate(within):
        yield f"{'  ' * depth}{each}:"
        parent = parent[each]
    yield from _yaml(parent, name, key, comments, is_short)


def _yaml(
    parent: Any, name: str, key: str, comments: dict[str, str], is_short: bool
) -> Iterator[str]:
    indent = "  " * key.count(".")
    if text := comments.get(key):
        yield from _wrapped(_first(text) if is_short else text, f"{indent}# ", f"{indent}# ")
    if OmegaConf.is_missing(parent, name) or not isinstance(parent[name], DictConfig):
        values: Any = OmegaConf.to_container(parent, resolve=False)
        shown = OmegaConf.to_yaml({name: values[name]}).rstrip()
        yield from (indent + line for line in shown.splitlines())
        return
    yield f"{indent}{name}:"
    for below in sorted(parent[name], key=lambda below: f"{key}.{below}" in own_keys()):
        yield from _yaml(parent[name], str(below), f"{key}.{below}", comments, is_short)


def _first(text: str) -> str:
    match = _SENTENCE.match(text)
    return match[1] if match else text


def _wrapped(text: str, first: str, later: str) -> list[str]:
    """Return lines; where the text has several, the further ones are items of a list."""
    head, *items = text.split("\n")
    lines = textwrap.wrap(
        head, WIDTH, initial_indent=first, subsequent_indent=later, break_on_hyphens=False
    )
    for item in items:
        lines += _wrapped(item.strip(), f"{later}  ", f"{later}    ")
    return lines
