"""Python's own prose: the language reference and the docstrings of installed packages."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from bertexp.data.cache import fingerprint
from bertexp.data.corpora import CORPORA, Corpus, Document, prose
from bertexp.data.corpora.config import DatasetConfig
from bertexp.validation import UserError

_SKIPPED = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}


@CORPORA.register("pydoc", reads=("dataset.packages",))
class PydocCorpus(Corpus):
    """The topics of ``pydoc``, the standard library and ``dataset.packages``, in that order.

    A topic or a module is a document; a paragraph that came before is left out, wherever
    it was. Source files are parsed and never imported.

    Raises:
        UserError: a package that is not installed, or that has no Python source.
    """

    def __init__(self, config: DatasetConfig) -> None:
        library = Path(sysconfig.get_path("stdlib"))
        self._modules = list(_modules(library))
        self._packages = [module for name in config.packages for module in _package(name)]

    def fingerprint(self) -> str:
        """Return a value for the version of Python, the packages' files and the cleaner."""
        states = [(name, path.stat()) for name, path in self._packages]
        packages = [(name, state.st_size, state.st_mtime_ns) for name, state in states]
        return fingerprint([sys.version, packages, prose.VERSION])

    def documents(self) -> Iterator[Document]:
        """Yield a document a topic, then a document a module."""
        from pydoc_data.topics import topics

        seen: set[str] = set()
        for name in sorted(topics):
            yield Document(f"pydoc_data.topics.{name}", _unseen([topics[name]], seen))
        for name, path in [*self._modules, *self._packages]:
            yield Document(name, _unseen(_docstrings(path), seen))


def _unseen(texts: list[str], seen: set[str]) -> list[str]:
    """Return the paragraphs of ``texts`` that are not in ``seen``, and add them to it."""
    found = [paragraph for text in texts for paragraph in prose.paragraphs(text)]
    fresh = [text for text in dict.fromkeys(found) if text not in seen]
    seen.update(fresh)
    return fresh


def _modules(folder: Path, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, Path]]:
    """Yield dotted name and path of the modules below ``folder``, tests left out."""
    for parent, folders, files in os.walk(folder):
        # What is taken out of the list in place is not walked into; site-packages is large.
        folders[:] = sorted(set(folders) - _SKIPPED)
        for file in sorted(files):
            path = Path(parent, file)
            if path.suffix == ".py":
                parts = path.relative_to(folder).with_suffix("").parts
                yield ".".join(prefix + parts).removesuffix(".__init__"), path


def _package(name: str) -> list[tuple[str, Path]]:
    """Return dotted name and path of the modules of the installed package ``name``."""
    # A dotted name would make find_spec import the package above it.
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
    """Return the docstrings of a source file in order; none if it cannot be parsed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return []
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = (node for node in ast.walk(tree) if isinstance(node, documented))
    found = (ast.get_docstring(node, clean=False) for node in nodes)
    # A docstring can spell half a surrogate pair, which UTF-8 has no place for.
    return [text.encode(errors="replace").decode() for text in found if text]
