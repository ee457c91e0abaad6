"""Errors of Hydra, OmegaConf and the disk, each in a line that names the key."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from bertexp.config import Config, RunConfig, groups, keys
from bertexp.experiment.phases import EXAMPLE
from bertexp.families import FAMILIES
from bertexp.registry import Registry
from bertexp.sweeps.points import Limits
from bertexp.validation import UserError, nearest, nearest_key

# What a mistake in a configuration may raise.
MISTAKES = (HydraException, OmegaConfBaseException, ValueError, OSError)


@contextmanager
def in_one_line(schema: type[RunConfig]) -> Iterator[None]:
    """Raise a ``UserError`` with one line for any of ``MISTAKES``."""
    try:
        yield
    except MISTAKES as error:
        raise UserError(explain(error, schema)) from None


def explain(error: Exception, schema: type[RunConfig] = Config) -> str:
    if isinstance(error, UserError):
        return in_a_line(error)
    # Hydra could not create the folder, or open the log in it.
    disk = error.__cause__ if isinstance(error.__cause__, OSError) else error
    if isinstance(disk, OSError) and disk.strerror:
        return f"hydra.run.dir: cannot write {disk.filename} ({disk.strerror})."
    text = str(error)
    if match := re.search(r"Could not override '([^']+)'", text):
        key, known = match[1], [*groups(schema), *keys(schema)]
        if key in known:
            return f"{key}: has other keys; to replace them all, write '~{key}' '+{key}={{...}}'."
        resolve = [f"hydra.sweeper.{field.name}" for field in fields(Limits)]
        if key in resolve:
            return f"{key}: is a key of hydra/sweeper=resolve, which is not chosen."
        return f"{key}: no such key.{nearest_key(key, [*known, *resolve])}"
    if match := re.search(r"(?:Ambiguous value for argument|Sweep parameters) '([^'].*)'", text):
        return f"{match[1]}: several values are a sweep, with -m; a list is written [a,b]."
    if match := re.search(r"Could not find '([^']+)'", text):
        group, _, option = match[1].rpartition("/")
        extra = {"joblib": "joblib", "submitit_slurm": "slurm", "submitit_local": "slurm"}
        if option in extra:
            package = f"'bertexp[{extra[option]}]'"
            return f"{group}={option}: the package is missing, pip install {package}."
        for registry in Registry.all:
            if registry.key == f"{group}.name" and registry.has(option):
                return f"{group}={option}: has no file of its own; type {group}.name={option}."
        options = re.findall(r"^\t(\S+)$", text, re.MULTILINE)
        hint = (FAMILIES.hint if group == FAMILIES.group else nearest)(option, options)
        return f"{group}={option}: must be one of {', '.join(options)}.{hint}"
    if match := re.match(r"Error merging override \+*(phases=.*)", text):
        return f"{match[1]}: must be a list of phases, such as '{EXAMPLE}'."
    for override in sys.argv[1:]:
        group, _, option = override.partition("=")
        if group in groups(schema) and re.fullmatch(r"|null|true|false|[-+.\d].*", option):
            return f"{override}: the group needs an option; see --help {group}."
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def in_a_line(error: Exception) -> str:
    # The name of a file may have several.
    return " ".join(str(error).splitlines())
