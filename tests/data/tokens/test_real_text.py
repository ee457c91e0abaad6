"""Facts about the real data, all from the README beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from bertexp.config import Config
from bertexp.data.tokens.store import TokenStore
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.experiment.prepare import Data, prepare_data
from bertexp.objectives.pair_examples import PairExamples
from bertexp.training.plan import BatchPlan

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
    real_tokenizer: Tokenizer,
    experiment_config: Callable[..., Config],
    store_tokens: Callable[..., TokenStore],
    tmp_path: Path,
) -> None:
    documents = [[["I love NLP!", "I love ai"]], [["Something else.", "And more."]]]
    store = store_tokens(tmp_path, documents, real_tokenizer)
    # Two paragraphs have two sentences, and 90% of two pairs is both.
    config = experiment_config("task=nsp", "task.next_prob=0.9").task
    pairs = PairExamples(store, config, real_tokenizer, seed=0, name="nsp")
    batch = pairs.batch(0, np.arange(1))
    assert batch.input_ids_BL.tolist() == [
        [101, 1045, 2293, 17953, 2361, 999, 102, 1045, 2293, 9932, 102]
    ]
    assert batch.token_type_ids_BL is not None
    assert batch.token_type_ids_BL.tolist() == [[0] * 7 + [1] * 4]
    assert batch.targets["nsp"].labels_N.tolist() == [0]


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


def test_there_is_little_padding_in_batches_of_pairs(wiki: Data) -> None:
    """At 32 pairs: padded to 512, to the longest of a random batch, and as it is done here."""
    plan = BatchPlan(wiki.examples, batch_size=32, batches_per_step=1, seed=0)
    lengths = wiki.examples.lengths(0)
    batches = [batch for step in range(plan.steps_per_epoch) for batch in plan[step]]
    positions = sum(batch.input_ids_BL.numel() for batch in batches)
    assert sum(batch.tokens for batch in batches) == lengths.sum()
    assert 1 - lengths.sum() / positions < 0.05
    mixed = np.random.default_rng(0).permutation(len(lengths))
    parts = np.split(lengths[mixed], range(32, len(mixed), 32))
    assert 1 - lengths.sum() / sum(len(part) * part.max() for part in parts) > 0.4
    assert 1 - lengths.sum() / (512 * len(lengths)) > 0.85
    # The order of the batches is shuffled all the same.
    means = [batch.tokens / len(batch.example_ids) for batch in batches]
    assert stats.spearmanr(np.arange(len(means)), means).pvalue > 1e-6
