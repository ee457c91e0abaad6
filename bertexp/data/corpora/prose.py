"""The paragraphs of running English in docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

# Incremented whenever the rules below change, so that prepared corpora are rebuilt.
PROSE_VERSION = 1
SHORTEST = 40

_DIRECTIVE = re.compile(r"\.\. ?(?P<name>[\w:-]+)::|\.\.(\s|$)")
_PROSE_DIRECTIVES = {
    "note", "warning", "caution", "tip", "hint", "important", "attention", "seealso", "admonition",
}  # fmt: skip
_FIELD = re.compile(r":[A-Za-z][^:`]*:(\s|$)|@\w+\b")
_RULER = re.compile(r"([-=~^*+#_.:'\"<>])\1{2,}$")
_TABLE = re.compile(r"[|+]|([-=]{2,} +)+[-=]{2,}$|.*[^.!?:;)\s]\s{2,}\S")
_SIGNATURE = re.compile(r"[\w.]+\(.*\)( *->.*)?:?$|[\w.]+ *= *\S+$")
_PROMPT = re.compile(r">>>|\.\.\.( |$)|In \[\d*\]:|Out\[\d*\]:|\$ |% ")
_BULLET = re.compile(r"(?:[-*+•o]|\(?(?:\d{1,2}|[a-zA-Z#])[.)])\s+(?=\S)")
_LABEL = re.compile(r"^\*{0,2}`{0,2}\w[\w.]*`{0,2}(?: ?\([^()]*\))?(?: --?|:) +(?=[A-Z])")
_FIRST = re.compile(r"[\"'“‘(]*[A-Za-z_]")
_LAST = re.compile(r"[a-z0-9\"'”’)\]>][.!?:][\"'”’)]*$")
_FORMULA = re.compile(r"\\[a-zA-Z]+|\$[^$]+\$")
_WORD = re.compile(r"[\"'“‘(]*[A-Za-z]+(?:[-'’][A-Za-z]+)*[\"'”’)]*[.,:;!?]*[\"'”’)]*$")
_FUNCTION_WORDS = {
    "a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "has", "have", "if", "in",
    "is", "it", "its", "may", "must", "not", "of", "on", "or", "should", "that", "the", "then",
    "this", "to", "used", "was", "when", "which", "will", "with", "you",
}  # fmt: skip

# Markup, what is left of it, and a sign without which a text has none, which is found faster.
_INLINE = [
    ("`", re.compile(r":[\w:+-]+:`(?:[^`<]*<)?[~!.]?([^`<>]+)>?`"), r"\1"),
    ("`", re.compile(r"`([^`<>]+?)\s*<[^`<>]+>`__?"), r"\1"),
    ("`", re.compile(r"``(.+?)``"), r"\1"),
    ("`", re.compile(r"`([^`]+)`_{0,2}"), r"\1"),
    ("*", re.compile(r"(?<![\w*])\*\*([^\s*](?:[^*]*[^\s*])?)\*\*(?![\w*])"), r"\1"),
    ("*", re.compile(r"(?<![\w*])\*([^\s*](?:[^*]*[^\s*])?)\*(?![\w*])"), r"\1"),
    ("[", re.compile(r" ?\[(?:\d+|\w+)\]_?(?=[\s.,;:)]|$)"), ""),
    ("|", re.compile(r"\|([\w ]+)\|_?"), r"\1"),
    ("::", re.compile(r"\s*::$"), ":"),
]


def prose(docstring: str) -> list[str]:
    """Return the paragraphs of running English in a docstring, each on one line.

    Signatures, examples, tables, rulers, field lists and other markup are left out, as are
    paragraphs of under ``SHORTEST`` characters and those that do not read like a sentence.
    """
    lines = list(_without_markup(inspect.cleandoc(docstring).expandtabs().split("\n")))
    found = (_tidy(block) for block in _blocks(lines))
    return [text for text in found if _reads_well(text)]


def _without_markup(lines: list[str]) -> Iterator[str]:
    hidden_above: int | None = None
    in_example = False
    for number, line in enumerate(lines):
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        if not text:
            in_example = False
            yield ""
            continue
        if hidden_above is not None and indent <= hidden_above:
            hidden_above = None
        in_example = in_example or text.startswith(">>>")
        if hidden_above is not None or in_example:
            yield ""
            continue
        directive = _DIRECTIVE.match(text)
        if directive and directive["name"] not in _PROSE_DIRECTIVES:
            hidden_above = indent
        elif text.endswith("::") and not directive:
            hidden_above = indent if _next_indent(lines, number) > indent else None
        title = number + 1 < len(lines) and _RULER.match(lines[number + 1].strip())
        yield "" if directive or title or _is_markup(text) else line


def _next_indent(lines: list[str], number: int) -> int:
    following = (line for line in lines[number + 1 :] if line.strip())
    return next((len(line) - len(line.lstrip()) for line in following), 0)


def _is_markup(text: str) -> bool:
    return any(rule.match(text) for rule in (_RULER, _FIELD, _TABLE, _SIGNATURE, _PROMPT))


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    block: list[str] = []
    margin = 0
    for line in [*lines, ""]:
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        bullet = _BULLET.match(text)
        if block and (not text or bullet or indent != margin):
            yield block
            block = []
        if text:
            # Lines that continue a bullet are indented like its text, not like its mark.
            margin = indent + bullet.end() if bullet else indent
            block.append(text[bullet.end() :] if bullet else text)


def _tidy(block: list[str]) -> str:
    text = re.sub(r"(?<=[a-z])-\n(?=[a-z])", "-", "\n".join(block))
    text = re.sub(r"\s+", " ", text)
    for sign, rule, replacement in _INLINE:
        if sign in text:
            text = rule.sub(replacement, text)
    return _LABEL.sub("", text, count=1).strip()


def _reads_well(text: str) -> bool:
    """Whether ``text`` is long enough, begins and ends like a sentence and is mostly words."""
    if len(text) < SHORTEST or not _FIRST.match(text) or not _LAST.search(text):
        return False
    if _FORMULA.search(text):
        return False
    tokens = text.split()
    words = [token for token in tokens if _WORD.match(token)]
    function_words = sum(token.lower() in _FUNCTION_WORDS for token in tokens)
    return len(words) >= 0.75 * len(tokens) and function_words >= 0.15 * len(tokens)
