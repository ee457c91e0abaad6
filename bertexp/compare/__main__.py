"""``python -m bertexp.compare``: runs side by side, and whether their differences are real."""

from __future__ import annotations

import argparse
import os
import shlex
from importlib.util import find_spec
from pathlib import Path

from bertexp.arguments import Parser
from bertexp.compare.budgets import DEFAULT_UNIT, UNITS
from bertexp.files import expanded
from bertexp.terminal import command
from bertexp.validation import UserError

EPILOG = """examples:
  python -m bertexp.compare outputs/sweeps/mask_rate
  python -m bertexp.compare 'outputs/sweeps/rate-*' --at predicted_tokens
  python -m bertexp.compare RUN_A RUN_B --metric eval/loss@0.15
  python -m bertexp.compare --list              # the runs in outputs/
"""

# The options that ``compare`` takes.
CHOSEN = ("metric", "by", "baseline", "at", "margin")
FIGURES = (".pdf", ".svg", ".png")


@command()
def main() -> None:
    """Compare the runs of the command line, then exit."""
    parser = options_parser()
    options = parser.parse_args()
    if options.list and not options.paths:
        options.paths = ["outputs"]
    if not (options.paths or options.workspace):
        parser.error("the following arguments are required: PATH")
    for path in options.paths:
        name, is_setting, value = path.partition("=")
        if is_setting and name in (*CHOSEN, "evaluation", "save") and not expanded(path).exists():
            parser.error(
                f"{path}: no such folder; an option is written --{name} {shlex.quote(value)}"
            )
    if options.paths:
        _compare(options)
    if options.workspace:
        if find_spec("wandb_workspaces") is None:
            install = "pip install 'bertexp[workspace]'"
            raise UserError(f"--workspace: the package is missing, {install}.")
        from bertexp.compare.workspace import save_workspace

        print(save_workspace(options.project, options.entity))


def _compare(options: argparse.Namespace) -> None:
    from bertexp.compare.comparison import compare
    from bertexp.compare.plots import save_figure
    from bertexp.compare.report import (
        compare_runs,
        default_output,
        show_list,
        unrelated,
        watch,
        write_files,
    )
    from bertexp.compare.runs import evaluated, read_runs
    from bertexp.compare.table import MARKUPS

    chosen = {name: getattr(options, name) for name in CHOSEN}
    if options.watch:
        watch(options.paths, **chosen)
    runs = read_runs(options.paths)
    if options.evaluation:
        runs = evaluated(runs, options.evaluation)
    is_forced = options.by or options.baseline or options.at
    why = None if is_forced else unrelated(runs)
    if options.list or why:
        show_list(runs, options.metric, None if options.list else why)
        if options.save:
            raise UserError(f"--save {options.save}: a list of runs has no figure.")
        return
    output = options.output or default_output(options.paths)
    chosen["evaluation"] = options.evaluation
    if options.markup:
        comparison = compare(runs, **chosen)
        write_files(comparison, output)
        print(MARKUPS[options.markup](comparison))
    else:
        comparison = compare_runs(runs, output, **chosen)
    if options.save:
        save_figure(comparison, options.save)


def _figure(text: str) -> Path:
    if (path := expanded(text)).suffix in FIGURES:
        return path
    raise argparse.ArgumentTypeError(f"must end in {', '.join(FIGURES)}, not {text}")


def options_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m bertexp.compare",
        description="Puts runs side by side and tells which differences are real.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", metavar="PATH", nargs="*", help="folders of runs or sweeps, globs")
    _add_choices(parser)
    _add_output(parser)
    _add_dashboard(parser)
    return parser


def _add_choices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--by",
        metavar="KEY",
        action="append",
        default=[],
        help="key that tells settings apart; may be repeated (all that differ but the seed)",
    )
    parser.add_argument(
        "--metric",
        help="what to compare (eval/loss; of several tokenizers or masking strategies "
        "eval/bits_per_byte)",
    )
    parser.add_argument(
        "--baseline",
        metavar="KEY=VALUE",
        help="setting to compare the others with (the one nearest to the defaults)",
    )
    parser.add_argument(
        "--margin",
        metavar="SIZE",
        type=float,
        help="differences within it, in the metric's unit, are the same for you",
    )
    parser.add_argument(
        "--at",
        metavar="UNIT",
        help=f"compare where runs had spent as much: {', '.join(UNITS)} (default: {DEFAULT_UNIT}, "
        "or tokens for runs with trainer.max_tokens alone)",
    )
    parser.add_argument(
        "--evaluation",
        metavar="NAME",
        help="compare by RUN/evaluations/NAME.json, which bertexp.evaluate has saved",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    instead = parser.add_mutually_exclusive_group()
    for markup, where in (("markdown", "a page"), ("latex", "a paper")):
        instead.add_argument(
            f"--{markup}",
            dest="markup",
            action="store_const",
            const=markup,
            help=f"print the tables for {where} instead of those for the terminal",
        )
    instead.add_argument(
        "--list",
        action="store_true",
        help="list the runs instead (in outputs/), as is done if they cannot be compared",
    )
    parser.add_argument(
        "--output", metavar="FOLDER", type=Path, help="where to write (the sweep's folder)"
    )
    parser.add_argument(
        "--save",
        metavar="FILE",
        type=_figure,
        help=f"draw the metric of every setting for a paper, as {', '.join(FIGURES)}",
    )
    parser.add_argument(
        "--watch", action="store_true", help="show the table again until all runs have ended"
    )


def _add_dashboard(parser: argparse.ArgumentParser) -> None:
    wandb = parser.add_argument_group("the dashboard in W&B")
    wandb.add_argument(
        "--workspace", action="store_true", help="build one for all runs of a project, and save it"
    )
    wandb.add_argument(
        "--project",
        default=os.environ.get("WANDB_PROJECT", "bertexp"),
        help="the runs' tracker.project (WANDB_PROJECT, or bertexp)",
    )
    wandb.add_argument("--entity", help="their tracker.entity (the default one of the key)")


if __name__ == "__main__":
    main()
