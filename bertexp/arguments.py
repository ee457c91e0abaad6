"""Command lines, before a configuration is made of them."""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any, NoReturn

from bertexp.validation import UserError


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all of bertexp does."""

    def error(self, message: str) -> NoReturn:
        sys.exit(f"error: {message}.")


def checked_arguments(arguments: list[str]) -> list[str]:
    """Return a command line's arguments with ``-m``, which may stand anywhere, as Hydra has it.

    Raises:
        UserError: an option that does not exist, or a setting without a key.
    """
    flags = [argument for argument in arguments if argument in ("-m", "--multirun")]
    ordered = flags + [argument for argument in arguments if argument not in flags]
    for argument in ordered:
        if re.match(r"[+~]*(@|=|$)", argument):
            raise UserError(f"'{argument}': names no key; a setting is key=value.")
    # Loaded where it is needed: not every command is composed by Hydra.
    from hydra._internal.utils import get_args_parser

    _allow_lazy_help()

    _, unknown = get_args_parser().parse_known_args(ordered)
    if unknown:
        raise UserError(f"{unknown[0]}: no such option; a setting is key=value; see --help.")
    return ordered


def _allow_lazy_help() -> None:
    """Let Python 3.14, which reads every option's help at once, make Hydra 1.3's parser.

    One of its options has a help that becomes a text only when it is shown.
    """
    check: Any = getattr(argparse.ArgumentParser, "_check_help", None)
    if check is None or check.__module__ != argparse.__name__:
        return

    def check_text(parser: argparse.ArgumentParser, action: argparse.Action) -> None:
        if isinstance(action.help, str):
            check(parser, action)

    argparse.ArgumentParser._check_help = check_text  # type: ignore[attr-defined]
