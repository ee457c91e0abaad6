"""The prepared corpus: what it keeps, how it is parted, and that it is built once."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertexp.data.corpora.corpus import SPLITS, CorpusStore, prepare
from bertexp.validation import UserError


def write(folder: Path, documents: list[list[str]]) -> Path:
    path = folder / "corpus.txt"
    path.write_text("\n\n".join("\n".join(paragraphs) for paragraphs in documents))
    return path


def texts(store: CorpusStore, split: str) -> list[tuple[str, ...]]:
    return [tuple(document.paragraphs) for document in store.documents(split)]


DOCUMENTS = st.lists(
    st.lists(st.sampled_from(["A one.", "B two.", "C three."]), min_size=1, max_size=3),
    min_size=2,
    max_size=40,
).filter(lambda documents: len(set(map(tuple, documents))) > 1)


@settings(max_examples=40, deadline=None)
@given(documents=DOCUMENTS, fraction=st.floats(0.01, 0.99), seed=st.integers())
def test_splits_are_disjoint_whole_and_do_not_depend_on_order(
    configure, tmp_path_factory, documents, fraction, seed
):
    folder = tmp_path_factory.mktemp("text")
    config = configure("text", files=[str(write(folder, documents))], format="plain")
    config.validation_fraction = fraction
    first = prepare(config)
    train, validation = (texts(first, split) for split in SPLITS)
    assert sorted(train + validation) == sorted(map(tuple, documents))
    assert train
    assert not set(train) & set(validation)
    distinct = len(set(map(tuple, documents)))
    wanted = min(max(1, round(fraction * distinct)), distinct - 1)
    assert len(set(validation)) == wanted
    random.Random(seed).shuffle(documents)
    write(folder, documents)
    assert sorted(texts(prepare(config), "validation")) == sorted(validation)


def test_sizes_count_what_the_splits_hold(configure, tmp_path):
    documents = [[f"Paragraph {number}.", "Ünd."] for number in range(50)]
    store = prepare(configure("text", files=[str(write(tmp_path, documents))]))
    for split in SPLITS:
        found = texts(store, split)
        size = store.sizes[split]
        assert size.documents == len(found)
        assert size.paragraphs == sum(map(len, found))
        assert size.characters == sum(len(text) for paragraphs in found for text in paragraphs)
    assert store.sizes["validation"].documents == 2  # 5% of 50, rounded to even


def test_a_second_start_reads_what_the_first_one_built(configure, tmp_path):
    path = write(tmp_path, [["One."], ["Two."], ["Three."]])
    config = configure("text", files=[str(path)])
    first = prepare(config)
    written = (first.folder / "00000.arrow").stat().st_mtime_ns
    second = prepare(config)
    assert (second.folder, second.fingerprint) == (first.folder, first.fingerprint)
    assert (second.folder / "00000.arrow").stat().st_mtime_ns == written


def test_fingerprint_is_of_the_content(configure, tmp_path):
    path = write(tmp_path, [["One."], ["Two."]])
    auto = prepare(configure("text", files=[str(path)]))
    plain = prepare(configure("text", files=[str(path)], format="plain"))
    assert auto.folder != plain.folder
    assert auto.fingerprint == plain.fingerprint
    write(tmp_path, [["One."], ["Three."]])
    assert prepare(configure("text", files=[str(path)])).fingerprint != auto.fingerprint


def test_max_documents_keeps_the_first_that_have_text(configure, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "One."}\n{"text": " \\n "}\n{"text": "Two."}\n{"text": "Three."}\n')
    store = prepare(configure("text", files=[str(path)], max_documents=2))
    assert sorted(texts(store, "train") + texts(store, "validation")) == [("One.",), ("Two.",)]


def test_many_batches_are_read_back_in_order(configure, tmp_path):
    documents = [[f"{number} " + "x" * 1_000_000] for number in range(12)]
    store = prepare(configure("text", files=[str(write(tmp_path, documents))]))
    numbers = [int(text[0].split()[0]) for text in texts(store, "train")]
    assert len(numbers) == 11
    assert numbers == sorted(numbers)


@pytest.mark.parametrize(
    ("content", "message"),
    [(" \n \n", "the corpus has no text"), ("One.\n\nOne.\n", "has only one document")],
)
def test_too_little_text_is_said_in_one_line(configure, tmp_path, own_cache, content, message):
    path = tmp_path / "corpus.txt"
    path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        prepare(configure("text", files=[str(path)]))
    assert "\n" not in str(caught.value)
    assert not list((own_cache / "corpus").iterdir())


def test_wrong_name_lists_the_corpora(configure):
    with pytest.raises(UserError, match=r"dataset\.name=pydok: .*Did you mean 'pydoc'"):
        prepare(configure("pydoc", name="pydok"))


def test_a_synthetic_language_that_no_memory_holds_is_refused(configure):
    with pytest.raises(UserError, match=r"dataset\.synthetic\.words=10000: must be less"):
        configure("synthetic", synthetic={"words": 10_000})
