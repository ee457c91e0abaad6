"""``python -m bertexp.predict``: asks a saved model about texts."""

from __future__ import annotations

import argparse
import codecs
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from bertexp.arguments import Parser
from bertexp.terminal import command, reader_is_gone
from bertexp.training.config import DEVICES
from bertexp.validation import UserError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from bertexp.predict.prediction import Prediction

EPILOG = """examples:
  python -m bertexp.predict RUN "The [MASK] statement returns a value ."
  python -m bertexp.predict RUN "A text without a mask is scored."
  python -m bertexp.predict RUN "The first sentence." "Does this follow?"
  python -m bertexp.predict RUN --json < texts.txt     # a text a line, a tab before a second
"""


@command()
def main() -> None:
    """Answer what the command line or standard input asks, then exit.

    Of many lines, one that cannot be answered stops no other; the exit code is 1 then.
    """
    options = _parser().parse_args()
    try:
        sys.exit(_answer(options))
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _answer(options: argparse.Namespace) -> int:
    from bertexp.experiment.saved import find_saved
    from bertexp.predict.prediction import Predictor

    predict = Predictor(find_saved(options.run), options.device)
    if options.text is not None:
        _show(predict(options.text, options.text_b), predict.mask, options.json)
        return 0
    failed = 0
    for number, line in enumerate(sys.stdin.buffer, start=1):
        try:
            _show(predict(*_texts(line)), predict.mask, options.json)
        except UserError as error:
            failed = 1
            print(f"error: line {number}: {error}", file=sys.stderr)
        if reader_is_gone():
            break
    return failed


def _texts(line: bytes) -> tuple[str, str | None]:
    """Return the text of a line, and what follows a tab.

    Raises:
        UserError: it is not UTF-8, whatever the terminal's encoding is.
    """
    try:
        text, tab, text_b = line.decode("utf-8-sig").rstrip("\r\n").partition("\t")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise UserError(f"is not UTF-8 (byte 0x{byte:02x} at {error.start + 1}).") from error
    return text, text_b if tab else None


def _show(found: Prediction, mask: str, as_json: bool) -> None:
    if as_json:
        # JSON is UTF-8; where the output is not, every character has an escape.
        is_utf8 = codecs.lookup(sys.stdout.encoding).name == "utf-8"
        print(json.dumps(_plain(found), ensure_ascii=not is_utf8), flush=True)
        return
    from bertexp.experiment import report

    report.show(_table(found, mask))


def _plain(found: Prediction) -> dict[str, object]:
    """Return the prediction as JSON has it: an object for each candidate and each token."""
    plain = asdict(found)
    for mask in plain["masks"]:
        mask["likeliest"] = [{"token": t, "probability": p} for t, p in mask["likeliest"]]
    plain["tokens"] = [{"token": t, "log_likelihood": value} for t, value in found.tokens]
    return plain


def _table(found: Prediction, mask: str) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    lines: list[RenderableType] = []
    for each in found.masks:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column(Text(f"{mask} at {each.position}"), min_width=12)
        table.add_column("probability", justify="right")
        for token, probability in each.likeliest:
            table.add_row(Text(token), f"{probability:.4f}")
        lines += [table, ""]
    if found.tokens:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("token", min_width=12)
        table.add_column("log-likelihood", justify="right")
        for token, value in found.tokens:
            table.add_row(Text(token), f"{value:.4f}")
        known = found.pseudo_perplexity
        shown = "none: no word is known" if known is None else f"{known:.3f}"
        lines += [table, Text(f"pseudo-perplexity: {shown}", "bold"), ""]
    if found.follows is not None:
        lines += [Text(f"follows with probability {found.follows:.4f}", "bold"), ""]
    return Group(*lines[:-1])


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m bertexp.predict",
        description="Fills [MASK]s, scores a text, or says whether a second text follows.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "run", metavar="RUN", help="a run's folder, one of its checkpoints, a folder or a Hub name"
    )
    parser.add_argument("text", metavar="TEXT", nargs="?", help="none: a text a line from stdin")
    parser.add_argument("text_b", metavar="TEXT_B", nargs="?", help="the second of a pair")
    parser.add_argument(
        "--device", default="auto", choices=DEVICES, help="where; auto: a GPU if there is one"
    )
    parser.add_argument("--json", action="store_true", help="a JSON object a text, for programs")
    return parser


if __name__ == "__main__":
    main()
