"""Python's own prose: what the cleaner keeps of a docstring, and the corpus made of it."""

from __future__ import annotations

import sys

import pytest

from bertexp.data.corpora import CORPORA
from bertexp.data.corpora.pydoc import SHORTEST, prose
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
def documents(configure):
    return [d for d in CORPORA["pydoc"](configure("pydoc")).documents() if d.paragraphs]


def test_the_default_corpus_is_large_clean_and_without_repetition(documents):
    texts = [text for document in documents for text in document.paragraphs]
    assert sum(map(len, texts)) > 1_000_000
    assert len(texts) == len(set(texts))
    for text in texts:
        assert len(text) >= SHORTEST
        assert "\n" not in text
        assert ">>> " not in text
        assert "::=" not in text


def test_documents_are_topics_and_modules_without_tests(documents):
    names = [document.name for document in documents]
    assert len(names) == len(set(names))
    assert {"pydoc_data.topics.compound", "argparse", "json.decoder", "email"} <= set(names)
    assert not [name for name in names if {"test", "tests"} & set(name.split("."))]


def test_packages_are_read_and_never_imported(configure, tmp_path, monkeypatch):
    package = tmp_path / "curious"
    package.mkdir()
    sentence = "This is a sentence that only the curious package has in it."
    (package / "__init__.py").write_text(f'"""{sentence}"""\nraise SystemExit("imported")\n')
    (package / "broken.py").write_text("def (:\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    corpus = CORPORA["pydoc"](configure("pydoc", packages=["curious"]))
    *_, last = [document for document in corpus.documents() if document.paragraphs]
    assert (last.name, last.paragraphs) == ("curious", [sentence])
    assert "curious" not in sys.modules
    assert corpus.fingerprint() != CORPORA["pydoc"](configure("pydoc")).fingerprint()


@pytest.mark.parametrize("name", ["no_such_package", "os.path", "", "1x"])
def test_unknown_packages_are_named(configure, name):
    with pytest.raises(UserError, match=f"dataset.packages: no package '{name}' is installed"):
        CORPORA["pydoc"](configure("pydoc", packages=[name]))


def test_packages_without_source_are_named(configure):
    with pytest.raises(UserError, match="'sys' has no Python source"):
        CORPORA["pydoc"](configure("pydoc", packages=["sys"]))
