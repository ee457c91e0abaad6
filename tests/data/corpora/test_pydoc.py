"""The prose of packages: what the cleaner keeps of a docstring, and the corpora made of it."""

from __future__ import annotations

import sys
from itertools import islice

import pytest

from bertexp.data.corpora import CORPORA, pydoc
from bertexp.data.corpora.corpus import SPLITS, CorpusStore, prepare
from bertexp.data.corpora.prose import SHORTEST, prose
from bertexp.validation import UserError

DOCSTRING = """frobnicate(x, *, depth=1) -> int

    Return the number of times that ``x`` can be frobnicated, as
    described by :class:`~frob.Theory` and the *second* chapter.

    >>> frobnicate("it is in the text that should not be here at all.")
    3

    Parameters
    ----------
    x : array_like
        The value to frobnicate, which may be of any type that is non-
        empty when the function is called.

    :param depth: The number of levels to which the function will go down.

    ======  ==========================
    Name    What is in the column here
    ======  ==========================

    .. versionchanged:: 3.1
       The value of this is not for the text and must be left out.

    .. note::

       A note is prose and so it should stay in the text that is used.

    The result is used like this::

        for the_value in the_list_of_values: the_function(the_value).

    - The first item of a list that has more than
      one line is a paragraph.
    """


def test_only_running_english_is_left():
    assert prose(DOCSTRING) == [
        "Return the number of times that x can be frobnicated, as described by frob.Theory"
        " and the second chapter.",
        "The value to frobnicate, which may be of any type that is non-empty when the function"
        " is called.",
        "A note is prose and so it should stay in the text that is used.",
        "The first item of a list that has more than one line is a paragraph.",
    ]


@pytest.fixture(scope="module")
def corpus(configure, tmp_path_factory) -> CorpusStore:
    """The default corpus, which takes seconds to read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERTEXP_CACHE", str(tmp_path_factory.mktemp("cache")))
        return prepare(configure("pydoc"))


def test_the_default_corpus_is_large_clean_and_without_repetition(corpus):
    documents = [document for split in SPLITS for document in corpus.documents(split)]
    texts = [text for document in documents for text in document.paragraphs]
    assert sum(map(len, texts)) > 3_000_000
    assert len(texts) == len(set(texts))
    for text in texts:
        assert len(text) >= SHORTEST
        assert "\n" not in text
        assert ">>> " not in text
        assert "::=" not in text
    names = [document.name for document in documents]
    assert len(names) == len(set(names))
    assert {"numpy.fft._pocketfft", "scipy.stats._qmc", "sklearn.svm._classes"} <= set(names)
    assert not [name for name in names if {"test", "tests"} & set(name.split("."))]


def test_the_default_corpus_is_the_same_wherever_its_packages_are(corpus):
    """As it is in their wheels for Linux, macOS and Windows, of Python 3.11 to 3.14."""
    pinned = "numpy 2.4.6, scipy 1.17.1, scikit-learn 1.9.1"
    if corpus.source != pinned:
        pytest.skip(f"{corpus.source} is installed here, not {pinned}")
    assert corpus.fingerprint == "18e204ca91ae9353"


SENTENCE = "This is a sentence that only the curious package has in it."
INDENTED = f"""\"\"\"{SENTENCE}

    It is wrapped where a line has become so long that it cannot be read,
    and it is indented with the code around it.
    \"\"\"
"""
PATCH = "\n# start delvewheel patch\ndef _patch():\n    import os\n\n\n_patch()\n# end\n\n\n"


def test_a_package_built_for_another_system_has_the_same_prose(configure, tmp_path, monkeypatch):
    """It has other line ends, compiled modules, patches and files of the build's own."""
    module = f"class A:\n  def f(self):\n    if self:\n      def g():\n        {INDENTED}"
    linux = {
        "curious/__init__.py": INDENTED + "x = 1\n",
        "curious/linalg/a.py": module,
        "curious/linalg/b.py": '"""The second of the modules is here for the order of them."""\n',
        "curious/linalg/_c.cpython-311-x86_64-linux-gnu.so": "\x7fELF",
        "curious/__config__.py": '"""This was built by the compiler that is on this machine."""\n',
        "curious/_distributor_init.py": '"""It is of no use to you if you are on this system."""\n',
        "curious/distutils/core.py": '"""This is a module that only some of the Pythons have."""\n',
        "curious/tests/test_a.py": '"""A test is not for reading, and not a part of it."""\n',
        "curious-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: curious\nVersion: 1.0\n",
    }
    windows = {
        "curious/linalg/b.py": linux["curious/linalg/b.py"],
        "curious/linalg/a.py": module,
        "curious/linalg/_c.cp314-win_amd64.pyd": "MZ",
        "curious/_distributor_init.py": '"""It loads the libraries that are beside it."""\n',
        "curious/__config__.py": '"""This was built by the compiler that is on that machine."""\n',
        "curious/__init__.py": INDENTED + PATCH + "x = 1\n",
        "curious-1.0.dist-info/METADATA": linux["curious-1.0.dist-info/METADATA"],
    }
    newer = linux | {"curious/linalg/b.py": '"""The second of the modules has changed since."""'}
    monkeypatch.setattr(pydoc, "PACKAGES", {"curious": "curious"})
    found = []
    for number, (files, end) in enumerate([(linux, "\n"), (windows, "\r\n"), (newer, "\n")]):
        site = tmp_path / str(number)
        for name, text in files.items():
            (site / name).parent.mkdir(parents=True, exist_ok=True)
            (site / name).write_text(text, newline=end)
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(site))
            found.append(prepare(configure("pydoc")))
    here, there, later = found
    assert here.fingerprint == there.fingerprint != later.fingerprint
    assert here.source == "curious 1.0"
    texts = [doc.paragraphs for split in SPLITS for doc in here.documents(split)]
    assert sorted(texts) == [
        ["The second of the modules is here for the order of them."],
        [
            SENTENCE,
            "It is wrapped where a line has become so long that it cannot be read, and it is "
            "indented with the code around it.",
        ],
    ]


def test_the_library_of_python_is_a_corpus_of_its_own(configure):
    read = CORPORA["stdlib"](configure("stdlib")).documents()
    documents = [document for document in islice(read, 150) if document.paragraphs]
    names = {document.name for document in documents}
    assert {"pydoc_data.topics.compound", "argparse"} <= names


@pytest.mark.parametrize("dataset", ["pydoc", "stdlib"])
def test_packages_are_read_and_never_imported(configure, tmp_path, monkeypatch, dataset):
    package = tmp_path / "curious"
    package.mkdir()
    (package / "__init__.py").write_text(f'"""{SENTENCE}"""\nraise SystemExit("imported")\n')
    (package / "broken.py").write_text("def (:\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(pydoc, "PACKAGES", {})
    monkeypatch.setattr(pydoc.sysconfig, "get_path", lambda _: str(tmp_path / "none"))
    corpus = CORPORA[dataset](configure(dataset, packages=["curious"]))
    *_, last = [document for document in corpus.documents() if document.paragraphs]
    assert (last.name, last.paragraphs) == ("curious", [SENTENCE])
    assert "curious" not in sys.modules
    assert corpus.fingerprint() != CORPORA[dataset](configure(dataset)).fingerprint()


@pytest.mark.parametrize("name", ["no_such_package", "os.path", "", "1x"])
def test_unknown_packages_are_named(configure, name):
    with pytest.raises(UserError, match=f"dataset.packages: no package '{name}' is installed"):
        CORPORA["pydoc"](configure("pydoc", packages=[name])).fingerprint()


def test_packages_without_source_are_named(configure):
    with pytest.raises(UserError, match="'sys' has no Python source"):
        CORPORA["pydoc"](configure("pydoc", packages=["sys"])).fingerprint()
