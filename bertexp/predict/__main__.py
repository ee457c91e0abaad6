"""``python -m bertexp.predict``: fills masks, scores texts and pairs with a saved model."""

from __future__ import annotations

import argparse
import codecs
import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from bertexp.arguments import Parser
from bertexp.files import expanded
from bertexp.terminal import command, reader_is_gone
from bertexp.training.config import DEVICES
from bertexp.validation import UserError, require

if TYPE_CHECKING:
    from bertexp.predict.results import Prediction
    from bertexp.predict.unmasking import Unmasking

EPILOG = """examples:
  python -m bertexp.predict RUN "The [MASK] statement returns a value ."
  python -m bertexp.predict RUN "A text without a mask is scored."
  python -m bertexp.predict RUN "The first sentence." "Does this follow?"
  python -m bertexp.predict RUN --json < texts.txt     # a text a line, a tab before a second
  python -m bertexp.predict RUN "The [MASK] [MASK] [MASK] a value ." --steps 3
  python -m bertexp.predict RUN "The generator" --write 20 --seed 0
"""


@command()
def main() -> None:
    """Predict for the command line's text, or for each line of standard input, then exit.

    An unreadable line does not stop the others, but makes the exit code 1.
    """
    sys.exit(_predict(options_parser().parse_args()))


def _predict(options: argparse.Namespace) -> int:
    if options.text is None and " " in options.run and not expanded(options.run).exists():
        raise UserError(f"RUN is missing, a run's folder before the text: RUN '{options.run}'.")
    from bertexp.experiment.saved import find_saved

    saved = find_saved(options.run)
    from bertexp.predict.prediction import Predictor  # with torch, which takes seconds

    predict = Predictor(saved, options.device)
    unmasking = _unmasking(options, predict.writes)
    if options.write is not None:
        assert unmasking
        found = predict.write(options.text or "", options.write, unmasking)
        _print(found, options.json)
        return 0
    if options.text is not None:
        _print(predict(options.text, options.text_b, unmasking), options.json)
        return 0
    failed = 0
    for number, line in enumerate(sys.stdin.buffer, start=1):
        try:
            _print(predict(*_texts(line), unmasking), options.json)
        except UserError as error:
            failed = 1
            print(f"error: line {number}: {error}", file=sys.stderr)
        if reader_is_gone():
            break
    return failed


def _unmasking(options: argparse.Namespace, writes: bool) -> Unmasking | None:
    """Return how masks are filled one after another, None if each is filled independently.

    Raises:
        UserError: an option would not be read.
    """
    from bertexp.predict.unmasking import Unmasking

    together = writes if options.steps is None else options.steps > 0
    if options.write is not None:
        require(options.text_b is None, "--write", options.write, "for one text, or none")
        require(options.steps != 0, "--steps", 0, "above 0 with --write")
        together = True
    if not together and options.seed is not None:
        raise UserError(
            f"--seed {options.seed}: draws tokens where masks are filled in steps; add --steps."
        )
    if options.seed is None and options.temperature is not None:
        raise UserError(
            f"--temperature {options.temperature:g}: applies to random draws; add --seed."
        )
    if not together:
        return None
    return Unmasking(options.steps, options.seed, options.temperature or 1.0)


def _texts(line: bytes) -> tuple[str, str | None]:
    """Return the text of a line, and the text after a tab.

    Raises:
        UserError: it is not UTF-8, whatever the terminal's encoding is.
    """
    try:
        text, tab, text_b = line.decode("utf-8-sig").rstrip("\r\n").partition("\t")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise UserError(f"is not UTF-8 (byte 0x{byte:02x} at {error.start + 1}).") from error
    return text, text_b if tab else None


def _print(found: Prediction, as_json: bool) -> None:
    if as_json:
        # JSON is UTF-8; for other encodings of the output every character has an escape.
        is_utf8 = codecs.lookup(sys.stdout.encoding).name == "utf-8"
        print(json.dumps(_plain(found), ensure_ascii=not is_utf8), flush=True)
        return
    from bertexp.console import show

    show(found)


def _plain(found: Prediction) -> dict[str, object]:
    plain = asdict(found)
    del plain["mask"]
    for mask in plain["masks"]:
        mask["likeliest"] = [{"token": t, "probability": p} for t, p in mask["likeliest"]]
    plain["tokens"] = [{"token": t, "log_likelihood": value} for t, value in found.tokens]
    if found.replaced is None:
        del plain["replaced"]
    else:
        plain["replaced"] = [{"token": t, "probability": p} for t, p in found.replaced]
    return plain


def options_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m bertexp.predict",
        description="Fills [MASK]s, scores a text, or predicts whether a second text follows.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "run", metavar="RUN", help="a run's folder, one of its checkpoints, a folder or a Hub name"
    )
    parser.add_argument("text", metavar="TEXT", nargs="?", help="none: a text a line from stdin")
    parser.add_argument("text_b", metavar="TEXT_B", nargs="?", help="the second of a pair")
    parser.add_argument(
        "--steps",
        type=_at_least(0),
        help="fill the masks in this many steps (at most one for each mask), most confident first; "
        "0: show the likeliest tokens of each alone, the default unless the task is diffusion",
    )
    parser.add_argument(
        "--write", type=_at_least(1), metavar="N", help="write N tokens after TEXT, if any"
    )
    parser.add_argument(
        "--seed", type=_at_least(0), help="draw tokens; none: the likeliest ones are taken"
    )
    parser.add_argument(
        "--temperature", type=_temperature, help="of these draws; 1: the model's own distribution"
    )
    parser.add_argument(
        "--device", default="auto", choices=DEVICES, help="where; auto: a GPU if there is one"
    )
    parser.add_argument("--json", action="store_true", help="a JSON object a text, for programs")
    return parser


def _at_least(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text}: must be an integer of at least {least}")
        return int(text)

    return read


def _temperature(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: must be above 0 and finite")
    return value


if __name__ == "__main__":
    main()
