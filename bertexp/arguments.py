"""Command lines, and the configurations that Hydra composes from them."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NoReturn

from bertexp.files import conf_dir, expanded
from bertexp.validation import UserError

_SETTING = re.compile(r"([+~]*[A-Za-z_][\w./@:-]*)=(.*)", re.DOTALL)
# Paths that Hydra uses before there is a configuration.
_PATH = re.compile(
    r"(\+*(?:hydra\.(?:run|sweep)\.dir|trainer\.resume)=|--config-dir=)(['\"]?)(~.*)\2"
)


def is_path(argument: str) -> bool:
    """Return whether an argument is a path, as of a job ``sweeps/s/seed=1``, and no override."""
    first = argument.split("/")[0]
    return not argument.startswith("-") and "=" not in first and first != "hydra"


@contextmanager
def composing() -> Iterator[None]:
    """Make ``hydra.compose`` read ``conf/`` within a ``with`` block, in a Hydra job as well."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    # Hydra refuses a second initialization.
    is_there = GlobalHydra.instance().is_initialized()
    with nullcontext() if is_there else initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield


class Parser(argparse.ArgumentParser):
    """Prints errors in one line."""

    def error(self, message: str) -> NoReturn:
        sys.exit(f"error: {message}.")


def checked_arguments(arguments: list[str]) -> list[str]:
    """Return a command line's arguments as Hydra reads them: options first, odd text quoted.

    Options may stand anywhere.

    Raises:
        UserError: an option that does not exist, or an argument that is no setting.
    """
    for argument in arguments:
        if re.match(r"[+~]*(@|=|$)", argument):
            raise UserError(f"'{argument}': names no key; a setting is key=value.")
    # Imported here, because not every command is composed by Hydra.
    from hydra._internal.utils import get_args_parser

    _allow_lazy_help()
    found = [_with_home(argument) for argument in arguments]
    parsed, unknown = get_args_parser().parse_known_intermixed_args(found)
    if unknown:
        raise UserError(
            f"{unknown[0]}: no such option; a setting is key=value, without dashes; see --help."
        )
    settings = list(parsed.overrides)
    options = [argument for argument in found if argument not in settings]
    return [*options, *map(_as_hydra_reads, settings)]


def quoted(value: str) -> str:
    """Return a value for an override, with Hydra's special characters quoted."""
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(text=value, quote=Quote.single).with_quotes()


def _as_hydra_reads(setting: str) -> str:
    if "=" not in setting and not setting.startswith("~"):
        raise UserError(f"'{setting}': sets nothing; a setting is key=value; see --help.")
    match = _SETTING.fullmatch(setting)
    if match and "," in match[2] and os.path.exists(expanded(match[2])):
        # The folder of a sweep's job has the name of its settings.
        return f"{match[1]}={quoted(match[2])}"
    if _is_read(setting):
        return setting
    if not match or match[2].startswith("="):
        raise UserError(
            f"'{setting}': cannot be read; a setting is key=value, with one '=' and no space "
            "beside it."
        )
    key, value = match.groups()
    inner = value[1:-1] if value.startswith("[") and value.endswith("]") else None
    if inner is not None and not set(inner) & set("[]{}'\""):
        return f"{key}=[{','.join(_element(part.strip()) for part in inner.split(','))}]"
    if value[0] in "[{'\"":
        raise UserError(
            f"{setting}: its brackets or quotes do not match; quote text that has such signs in "
            f"it for the shell and for bertexp: \"{key}='...'\"."
        )
    parts = [value] if set(value) & set("()[]{}'\"") else value.split(",")
    return f"{key}={','.join(map(_element, parts))}"


def _element(text: str) -> str:
    return text if _is_read(f"key={text}") else quoted(text)


def _is_read(setting: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        OverridesParser.create().parse_override(setting)
    except HydraException:
        return False
    return True


def _with_home(argument: str) -> str:
    match = _PATH.fullmatch(argument)
    if not match:
        return argument
    path = str(expanded(match[3]))
    return f"{match[1]}{path if argument.startswith('--') else quoted(path)}"


def _allow_lazy_help() -> None:
    """Let Python 3.14, which checks every option's help, accept that of Hydra 1.3's parser.

    One of its options has a help that becomes a text only when it is shown.
    """
    check: Any = getattr(argparse.ArgumentParser, "_check_help", None)
    if check is None or check.__module__ != argparse.__name__:
        return

    def check_text(parser: argparse.ArgumentParser, action: argparse.Action) -> None:
        if isinstance(action.help, str):
            check(parser, action)

    argparse.ArgumentParser._check_help = check_text  # type: ignore[attr-defined]
