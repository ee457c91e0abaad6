"""Facts about the real data, all from the README beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bertexp.config import Config
from bertexp.data import Data, prepare_data
from bertexp.tasks.nsp import PairExamples
from bertexp.tokens.sentences import split_sentences
from bertexp.tokens.store import TokenStore, write_tokens
from bertexp.tokens.tokenizer import WordPieceTokenizer

PARAGRAPHS_A_DOCUMENT = 30


@pytest.fixture(scope="module")
def paragraphs(real_text: Path) -> list[str]:
    """The lines that begin with a letter: no titles, no broken formulas."""
    lines = [line.strip() for line in real_text.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line[:1].isalpha()]


@pytest.fixture(scope="module")
def wiki(
    paragraphs: list[str],
    real_vocabulary: Path,
    experiment_config: Callable[..., Config],
    tmp_path_factory: pytest.TempPathFactory,
) -> Data:
    folder = tmp_path_factory.mktemp("wiki")
    starts = range(0, len(paragraphs), PARAGRAPHS_A_DOCUMENT)
    documents = ["\n".join(paragraphs[start : start + PARAGRAPHS_A_DOCUMENT]) for start in starts]
    (folder / "wiki.txt").write_text("\n\n".join(documents), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERTEXP_CACHE", str(folder / "cache"))
        return prepare_data(
            experiment_config(
                *("dataset=text", f"dataset.files=[{folder / 'wiki.txt'}]", "dataset.format=plain"),
                *("task=nsp", "task.sentences=period", "task.max_length=512"),
                *("tokenizer=pretrained", f"tokenizer.path={real_vocabulary}"),
            )
        )


def test_a_pair_is_encoded_as_bert_has_it(
    real_tokenizer: WordPieceTokenizer, tmp_path: Path
) -> None:
    documents = [[["I love NLP!", "I love ai"]], [["Something else."]]]
    write_tokens(tmp_path / "a.arrow", iter(documents), real_tokenizer, np.dtype(np.uint16))
    # One paragraph has two sentences, and 90% of one pair is one pair.
    pairs = PairExamples(
        TokenStore.open(tmp_path / "a.arrow"),
        max_length=16,
        next_prob=0.9,
        tokenizer=real_tokenizer,
        seed=0,
    )
    batch = pairs.batch(0, np.arange(1))
    assert batch.input_ids_BL.tolist() == [
        [101, 1045, 2293, 17953, 2361, 999, 102, 1045, 2293, 9932, 102]
    ]
    assert batch.token_type_ids_BL is not None
    assert batch.token_type_ids_BL.tolist() == [[0] * 7 + [1] * 4]
    assert batch.next_labels_B is not None
    assert batch.next_labels_B.tolist() == [0]


def test_the_first_two_paragraphs_give_fourteen_sentences(paragraphs: list[str]) -> None:
    bag = [sentence for text in paragraphs[:2] for sentence in split_sentences(text, "period", "")]
    assert len(bag) == 14


def test_paragraphs_and_sentences_are_as_many_as_counted(wiki: Data) -> None:
    stores = wiki.tokens.values()
    assert sum(len(store.paragraph_offsets) - 1 for store in stores) == 2130
    assert sum(len(store.sentence_offsets) - 1 for store in stores) == 10335
    sentences = np.concatenate([np.diff(store.paragraph_offsets) for store in stores])
    assert (sentences > 1).sum() == 1724
    assert all(len(store.document_offsets) > 2 for store in stores)


def test_pairs_are_as_long_as_counted(wiki: Data) -> None:
    """The counts are of one drawing of all pairs; ours are of many, of 95% of the text."""
    drawings = [wiki.examples.lengths(epoch) for epoch in range(20)]
    means = [lengths.mean() for lengths in drawings]
    tails = [np.quantile(lengths, 0.99) for lengths in drawings]
    longest = [lengths.max() for lengths in drawings]
    assert abs(np.mean(means) - 55) < 1
    assert min(tails) - 1 <= 121 <= max(tails) + 1
    assert min(longest) <= 181 <= max(longest)
