"""Python's own prose: the language reference and the docstrings of the standard library."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from bertexp.data.cache import fingerprint
from bertexp.data.config import DatasetConfig
from bertexp.data.corpora import CORPORA, Corpus, Document
from bertexp.data.corpora.prose import PROSE_VERSION
from bertexp.data.corpora.pydoc import docstrings, modules_in, modules_of, states, unseen


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
