"""How a text is cut into tokens."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from bertexp.console import show, table
from bertexp.data.tokens.inputs import ModelInput
from bertexp.inspect import TOPICS
from bertexp.inspect.subject import Subject

UNKNOWN = "bold red"


@TOPICS.register("tokens", reads=("text", "text_b"))
def show_tokens(subject: Subject) -> None:
    """Print a row for each token of the text, and the totals."""
    found, limit = subject.input, subject.max_length
    unknown, pad = subject.tokenizer.roles.unk, subject.tokenizer.roles.pad
    rows = _table(found, unknown, pad, subject.config.task.pad_to)
    show(Group(rows, "", *_sums(found, unknown)))
    length = Text(f"length   {len(found)} of {limit} tokens")
    if len(found) > limit:
        length.append(f": {len(found) - limit} too many for the model", UNKNOWN)
    show(length)


def _table(found: ModelInput, unknown: str | None, pad: str, pad_to: int | None) -> Table:
    columns = ("position", "token", "id", "segment", "attention mask", "word")
    made = table(*columns, left=("token", "word"), fold=("token", "word"))
    rows = zip(found.tokens, found.ids, found.segments, found.words, found.is_piece, strict=True)
    for position, (token, index, segment, word, is_piece) in enumerate(rows):
        note = Text("″" if is_piece else word)
        style = ""
        if token == unknown:
            note.append("  unknown")
            style = UNKNOWN
        cells = (str(position), Text(token), str(index), str(segment), "1", note)
        made.add_row(*cells, style=style)
    if pad_to is not None and pad_to > len(found):
        made.add_row(f"{len(found)}-{pad_to - 1}", Text(pad), "", "0", "0", "", style="dim")
    return made


def _sums(found: ModelInput, unknown: str | None) -> list[Text]:
    written = [n for n, word in enumerate(found.words) if word]
    words = sum(not found.is_piece[n] for n in written)
    cut = {n - 1 for n in written if found.is_piece[n] and not found.is_piece[n - 1]}
    missing = [found.words[n] for n in written if found.tokens[n] == unknown]
    lines = [
        Text(
            f"words    {words}, signs included; {len(cut)} cut into pieces; "
            f"{len(written) / words:.2f} tokens a word"
        )
    ]
    if missing:
        lines.append(Text(f"unknown  {len(missing)}: {', '.join(missing)}", UNKNOWN))
    return lines
