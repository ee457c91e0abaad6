"""Python's own prose: the language reference and the docstrings of installed packages."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from bertexp.data.cache import fingerprint
from bertexp.data.config import DatasetConfig
from bertexp.data.corpora import CORPORA, Corpus, Document
from bertexp.validation import UserError

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

_INLINE = [
    (re.compile(r":[\w:+-]+:`(?:[^`<]*<)?[~!.]?([^`<>]+)>?`"), r"\1"),
    (re.compile(r"`([^`<>]+?)\s*<[^`<>]+>`__?"), r"\1"),
    (re.compile(r"``(.+?)``"), r"\1"),
    (re.compile(r"`([^`]+)`_{0,2}"), r"\1"),
    (re.compile(r"(?<![\w*])\*\*([^\s*](?:[^*]*[^\s*])?)\*\*(?![\w*])"), r"\1"),
    (re.compile(r"(?<![\w*])\*([^\s*](?:[^*]*[^\s*])?)\*(?![\w*])"), r"\1"),
    (re.compile(r" ?\[(?:\d+|\w+)\]_?(?=[\s.,;:)]|$)"), ""),
    (re.compile(r"\|([\w ]+)\|_?"), r"\1"),
    (re.compile(r"\s*::$"), ":"),
]

_SKIPPED = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}


@CORPORA.register("pydoc", reads=("dataset.packages",))
class PydocCorpus(Corpus):
    """The topics of ``pydoc``, the standard library and ``dataset.packages``, in that order.

    Each topic and each module is a document; repeated paragraphs are dropped, across documents
    too. Source files are parsed, never imported.

    Raises:
        UserError: a package is not installed, or has no Python source.
    """

    def __init__(self, config: DatasetConfig) -> None:
        library = Path(sysconfig.get_path("stdlib"))
        self._modules = list(_modules(library))
        self._packages = [module for name in config.packages for module in _package(name)]

    def fingerprint(self) -> str:
        states = [(name, path.stat()) for name, path in self._packages]
        packages = [(name, state.st_size, state.st_mtime_ns) for name, state in states]
        return fingerprint([sys.version, packages, PROSE_VERSION])

    def documents(self) -> Iterator[Document]:
        from pydoc_data.topics import topics

        seen: set[str] = set()
        for name in sorted(topics):
            yield Document(f"pydoc_data.topics.{name}", _unseen([topics[name]], seen))
        for name, path in [*self._modules, *self._packages]:
            yield Document(name, _unseen(_docstrings(path), seen))


def _unseen(texts: list[str], seen: set[str]) -> list[str]:
    found = [paragraph for text in texts for paragraph in prose(text)]
    fresh = [text for text in dict.fromkeys(found) if text not in seen]
    seen.update(fresh)
    return fresh


def _modules(folder: Path, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, Path]]:
    for parent, folders, files in os.walk(folder):
        # Changed in place, so that os.walk skips the rest; site-packages is large.
        folders[:] = sorted(set(folders) - _SKIPPED)
        for file in sorted(files):
            path = Path(parent, file)
            if path.suffix == ".py":
                parts = path.relative_to(folder).with_suffix("").parts
                yield ".".join(prefix + parts).removesuffix(".__init__"), path


def _package(name: str) -> list[tuple[str, Path]]:
    # With a dotted name find_spec would import the parent package.
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None:
        raise UserError(
            f"dataset.packages: no package '{name}' is installed here;"
            " write names as in an import statement, without dots."
        )
    if spec.submodule_search_locations:
        folders = map(Path, spec.submodule_search_locations)
        modules = [module for folder in folders for module in _modules(folder, prefix=(name,))]
    else:
        path = Path(spec.origin or "")
        modules = [(name, path)] if path.suffix == ".py" else []
    if not modules:
        raise UserError(f"dataset.packages: '{name}' has no Python source to read.")
    return modules


def _docstrings(path: Path) -> list[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return []
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = (node for node in ast.walk(tree) if isinstance(node, documented))
    found = (ast.get_docstring(node, clean=False) for node in nodes)
    # A docstring can contain half a surrogate pair, which UTF-8 cannot encode.
    return [text.encode(errors="replace").decode() for text in found if text]


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
    for rule, replacement in _INLINE:
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
