"""The tokens of a text."""

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
    show(Group(_table(subject), "", *_sums(found, subject.tokenizer.roles.unk)))
    length = Text(f"length   {len(found)} of {limit} tokens")
    if len(found) > limit:
        length.append(f": {len(found) - limit} too many for the model", UNKNOWN)
    show(length)


def _table(subject: Subject) -> Table:
    found, roles, pad_to = subject.input, subject.tokenizer.roles, subject.config.task.pad_to
    segment = ("segment",) * (subject.segments > 1)
    columns = ("position", "token", "id", *segment, "attention mask", "word")
    made = table(*columns, left=("token", "word"))
    rows = zip(found.tokens, found.ids, found.segments, found.words, found.is_piece, strict=True)
    for position, (token, index, kind, word, is_piece) in enumerate(rows):
        note = Text("″" if is_piece else word)
        style = ""
        if token == roles.unk:
            note.append("  unknown")
            style = UNKNOWN
        kinds = (str(kind),) * len(segment)
        made.add_row(str(position), Text(token), str(index), *kinds, "1", note, style=style)
    if pad_to is not None and pad_to > len(found):
        last, kinds = f"{len(found)}-{pad_to - 1}", ("0",) * len(segment)
        made.add_row(last, Text(roles.pad), "", *kinds, "0", "", style="dim")
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
