"""Blocks of text: every token once, never across documents, labels that are what stood there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numbered import build_store, word_tokenizer

from bertexp.config import Config
from bertexp.objectives.examples import MaskedExamples
from bertexp.objectives.mlm import MaskedLanguageModelling
from bertexp.validation import UserError

PAD, UNK, CLS, SEP, MASK = range(5)
SENTENCES = st.lists(st.integers(UNK + 4, 304), min_size=1, max_size=30)
DOCUMENTS = st.lists(
    st.lists(st.lists(SENTENCES, min_size=1, max_size=4), min_size=1, max_size=4),
    min_size=1,
    max_size=6,
)


@pytest.fixture(scope="module")
def build(experiment_config: Callable[..., Config]) -> Callable[..., MaskedExamples]:
    config, tokenizer = experiment_config("task=mlm"), word_tokenizer()

    def examples(
        documents: list, max_length: int = 16, seed: int = 0, prob: float = 0.3
    ) -> MaskedExamples:
        config.task.max_length = max_length
        config.masking.prob = prob
        mlm = MaskedLanguageModelling(config.task, tokenizer, config.masking, seed)
        store = build_store(documents)
        return mlm.mark(mlm.write(store), store)

    return examples


@settings(deadline=None)
@given(documents=DOCUMENTS, max_length=st.integers(8, 64))
def test_blocks_hold_every_token_once_and_never_cross_documents(
    build: Callable[..., MaskedExamples], documents: list, max_length: int
) -> None:
    examples = build(documents, max_length)
    ids, lengths = examples.unmasked(np.arange(len(examples))), examples.lengths(0)
    assert lengths.max() == ids.shape[1] <= max_length
    blocks = []
    for row, length in zip(ids.tolist(), lengths, strict=True):
        assert (row[0], row[length - 1]) == (CLS, SEP)
        assert row[length:] == [PAD] * (len(row) - length)
        blocks.append(row[1 : length - 1])
    texts = [[t for par in document for s in par for t in s] for document in documents]
    room = max_length - 2
    expected = [text[at : at + room] for text in texts for at in range(0, len(text), room)]
    assert blocks == expected


@settings(deadline=None)
@given(
    documents=DOCUMENTS, prob=st.floats(0.01, 0.99), seed=st.integers(0, 99),
    epoch=st.integers(0, 9), data=st.data(),
)  # fmt: skip
def test_a_batch_has_the_labels_and_the_shape_the_model_needs(
    build: Callable[..., MaskedExamples], documents: list, prob: float, seed: int, epoch: int,
    data: st.DataObject,
) -> None:  # fmt: skip
    examples = build(documents, seed=seed, prob=prob)
    chosen = np.array(data.draw(st.lists(st.sampled_from(range(len(examples))), min_size=1)))
    truth, lengths = examples.unmasked(chosen), examples.lengths(epoch)[chosen]
    batch = examples.batch(epoch, chosen)
    seen = batch.input_ids_BL.numpy()
    inside = np.arange(truth.shape[1]) < lengths[:, None]
    if batch.attention_mask_BL is None:
        assert inside.all()
    else:
        assert (batch.attention_mask_BL.numpy() == inside).all()
    positions = batch.targets["mlm"].positions_N.numpy()
    assert (truth.ravel()[positions] == batch.targets["mlm"].labels_N.numpy()).all()
    assert (truth.ravel()[positions] > MASK).all()
    others = np.ones(truth.size, dtype=bool)
    others[positions] = False
    assert (seen.ravel()[others] == truth.ravel()[others]).all()
    assert len(set(positions // truth.shape[1])) == len(chosen) - batch.empty
    assert batch.tokens == inside.sum()
    assert batch.maskable == (truth > MASK).sum()
    assert batch.predictions == {"mlm": len(positions)}


def test_masks_are_new_in_each_epoch(build: Callable[..., MaskedExamples]) -> None:
    examples = build([[[list(range(5, 205))]]], max_length=64)
    found = [
        examples.batch(epoch, np.arange(4)).targets["mlm"].positions_N.tolist()
        for epoch in (0, 0, 1)
    ]
    assert found[0] == found[1] != found[2]


@settings(deadline=None, max_examples=50)
@given(documents=DOCUMENTS, epoch=st.integers(0, 9))
def test_an_example_is_the_same_in_any_batch(
    build: Callable[..., MaskedExamples], documents: list, epoch: int
) -> None:
    examples = build(documents)
    together = examples.batch(epoch, np.arange(len(examples))[::-1].copy())
    for row, example in enumerate(range(len(examples))[::-1]):
        alone = examples.batch(epoch, np.array([example]))
        length = alone.input_ids_BL.shape[1]
        assert (together.input_ids_BL[row, :length] == alone.input_ids_BL[0]).all()
        assert (together.input_ids_BL[row, length:] == PAD).all()


def test_text_that_is_all_unknown_gives_no_prediction_and_no_error(
    build: Callable[..., MaskedExamples],
) -> None:
    examples = build([[[[UNK, UNK, UNK]]], [[[7, 8]]]])
    batch = examples.batch(0, np.array([0]))
    assert batch.predictions == {"mlm": 0}
    assert batch.maskable == 0


def test_a_split_without_tokens_is_the_users_error(build: Callable[..., MaskedExamples]) -> None:
    with pytest.raises(UserError, match="no tokens"):
        build([])
