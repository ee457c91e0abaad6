"""The prose of installed packages and of Python itself: docstrings, read without importing them."""

from __future__ import annotations

import ast
import gc
import importlib.metadata
import importlib.util
import os
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from bertexp.data.cache import fingerprint
from bertexp.data.config import DatasetConfig
from bertexp.data.corpora import CORPORA, Corpus, Document
from bertexp.data.corpora.prose import PROSE_VERSION, prose
from bertexp.validation import UserError

# Packages that bertexp needs anyway, as they are imported and as they are installed. The Python
# files in the wheels of one version have the same docstrings on every system and for every Python
# (torch's builds are not as easily checked, and it and transformers take 20 s to read).
PACKAGES = {"numpy": "numpy", "scipy": "scipy", "sklearn": "scikit-learn"}
# All but these: numpy's distutils are in wheels for Python 3.11 alone, the others differ between
# systems.
_NOT_EVERYWHERE = re.compile(r"\w+\.(distutils(\..*)?|_distributor_init|__config__)")

_SKIPPED = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# The fields of a statement in which others are.
_BLOCKS = ("body", "handlers", "orelse", "finalbody", "cases")

# A module's dotted name and its file.
Module = tuple[str, Path]


@CORPORA.register("pydoc", reads=("dataset.packages",))
class PydocCorpus(Corpus):
    """The docstrings of ``PACKAGES`` and then of ``dataset.packages``.

    Each module is a document; repeated paragraphs are dropped, across documents too. Source files
    are parsed, never imported.

    Raises:
        UserError: a package is not installed, or has no Python source.
    """

    def __init__(self, config: DatasetConfig) -> None:
        self._packages = dict.fromkeys([*PACKAGES, *config.packages])

    @cached_property
    def _modules(self) -> list[Module]:
        return [
            (name, path)
            for package in self._packages
            for name, path in modules_of(package)
            if not _NOT_EVERYWHERE.fullmatch(name)
        ]

    def fingerprint(self) -> str:
        return fingerprint([states(self._modules), PROSE_VERSION])

    def described(self) -> str:
        versions = (f"{name} {importlib.metadata.version(name)}" for name in PACKAGES.values())
        return ", ".join(versions)

    def documents(self) -> Iterator[Document]:
        seen: set[str] = set()
        for name, path in self._modules:
            yield Document(name, unseen(docstrings(path), seen))


@CORPORA.register("stdlib", reads=("dataset.packages",))
class StdlibCorpus(Corpus):
    """The topics of ``pydoc``, the standard library and ``dataset.packages``, in that order.

    It is another corpus with every version of Python. Read as in ``PydocCorpus``.
    """

    def __init__(self, config: DatasetConfig) -> None:
        self._library = [*modules_in(Path(sysconfig.get_path("stdlib")))]
        self._packages = [module for name in config.packages for module in modules_of(name)]

    def fingerprint(self) -> str:
        return fingerprint([sys.version, states(self._packages), PROSE_VERSION])

    def documents(self) -> Iterator[Document]:
        from pydoc_data.topics import topics

        seen: set[str] = set()
        for name in sorted(topics):
            yield Document(f"pydoc_data.topics.{name}", unseen([topics[name]], seen))
        for name, path in [*self._library, *self._packages]:
            yield Document(name, unseen(docstrings(path), seen))


def unseen(docstrings: list[str], seen: set[str]) -> list[str]:
    """Return the paragraphs that are not in ``seen``, and add them to it."""
    found = [paragraph for text in docstrings for paragraph in prose(text)]
    fresh = [text for text in dict.fromkeys(found) if text not in seen]
    seen.update(fresh)
    return fresh


def states(modules: list[Module]) -> list[tuple[str, int, int]]:
    """Return what changes if a file does: its size and time, by the module's name."""
    found = [(name, path.stat()) for name, path in modules]
    return [(name, state.st_size, state.st_mtime_ns) for name, state in found]


def modules_in(folder: Path, prefix: tuple[str, ...] = ()) -> Iterator[Module]:
    """Yield the modules below a folder, but for tests, in an order that depends on names alone."""
    for parent, folders, files in os.walk(folder):
        # Changed in place, so that os.walk skips the rest; site-packages is large.
        folders[:] = sorted(set(folders) - _SKIPPED)
        for file in sorted(files):
            path = Path(parent, file)
            if path.suffix == ".py":
                parts = path.relative_to(folder).with_suffix("").parts
                yield ".".join(prefix + parts).removesuffix(".__init__"), path


def modules_of(name: str) -> list[Module]:
    """Return the modules of an installed package, or a module of its own."""
    # With a dotted name find_spec would import the parent package.
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None:
        raise UserError(
            f"dataset.packages: no package '{name}' is installed here;"
            " write names as in an import statement, without dots."
        )
    if spec.submodule_search_locations:
        folders = map(Path, spec.submodule_search_locations)
        modules = [module for folder in folders for module in modules_in(folder, prefix=(name,))]
    else:
        path = Path(spec.origin or "")
        modules = [(name, path)] if path.suffix == ".py" else []
    if not modules:
        raise UserError(f"dataset.packages: '{name}' has no Python source to read.")
    return modules


def docstrings(path: Path) -> list[str]:
    """Return the docstrings of a module, those of its top level before those below it."""
    # Trees have no cycles, and looking for some takes a third of the time where much is imported.
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return []
    finally:
        gc.enable()
    # Like ast.walk, but statements alone, which are a tenth of all nodes.
    nodes: list[ast.AST] = [tree]
    for node in nodes:
        for block in _BLOCKS:
            nodes.extend(getattr(node, block, ()))
    documented = (node for node in nodes if isinstance(node, _DOCUMENTED))
    found = (ast.get_docstring(node, clean=False) for node in documented)
    # A docstring can contain half a surrogate pair, which UTF-8 cannot encode.
    return [text.encode(errors="replace").decode() for text in found if text]
