"""``task.format``: which text is in an example, for every text, format and length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numbered import build_store, word_tokenizer

from bertexp.config import Config, conf_dir
from bertexp.experiment.prepare import Data
from bertexp.experiment.pretraining import Pretraining
from bertexp.families.base import Family
from bertexp.masking import STRATEGIES
from bertexp.masking.masker import Masker
from bertexp.masking.strategies import Context
from bertexp.objectives import FORMATS
from bertexp.objectives.batch import Batch
from bertexp.objectives.examples import BlockExamples, MaskedExamples
from bertexp.objectives.formats import RowExamples
from bertexp.objectives.pair_examples import PairExamples
from bertexp.tracking.identity import identify

PAD, UNK, CLS, SEP, MASK = range(5)
SENTENCES = st.lists(st.integers(5, 304), min_size=1, max_size=20)
DOCUMENTS = st.lists(
    st.lists(st.lists(SENTENCES, min_size=1, max_size=4), min_size=1, max_size=3),
    min_size=1,
    max_size=8,
)
Row = list[list[int]]


def pack(documents: list, room: int, between: int | None, whole: bool) -> list[Row]:
    """Return the text of each document in each row, packed one sentence or token at a time.

    ``between`` is the room that a further document takes; None if there is never one.
    """
    rows: list[Row] = []
    for document in documents:
        sentences = [sentence for paragraph in document for sentence in paragraph]
        units = sentences if whole else [[token] for sentence in sentences for token in sentence]
        is_first = True
        for unit in units:
            for start in range(0, len(unit), room):
                part = unit[start : start + room]
                more = len(part) + (between or 0) * is_first
                crosses = between is not None or not is_first
                used = sum(map(len, rows[-1])) + (between or 0) * (len(rows[-1]) - 1) if rows else 0
                if not rows or not crosses or used + more > room:
                    rows.append([part])
                elif is_first:
                    rows[-1].append(part)
                else:
                    rows[-1][-1] = rows[-1][-1] + part
                is_first = False
    return rows


FORMS = {
    ("doc_sentences", "row"): (None, True),
    ("full_sentences", "row"): (1, True),
    ("full_sentences", "document"): (2, True),
    ("packed", "row"): (1, False),
    ("packed", "document"): (2, False),
}


@pytest.fixture(scope="module")
def write(experiment_config: Callable[..., Config]) -> Callable[..., RowExamples]:
    config, tokenizer = experiment_config("task=mlm").task, word_tokenizer()

    def examples(documents: list, form: str, attention: str, length: int) -> RowExamples:
        own = replace(config, format=form, attention=attention, max_length=length)
        found = FORMATS[form](build_store(documents), own, tokenizer, 0)
        assert isinstance(found, RowExamples)
        return found

    return examples


def texts(batch: Batch) -> list[list[int]]:
    mask_BL = batch.attention_mask_BL
    rows = batch.input_ids_BL.tolist()
    sizes = [len(row) for row in rows] if mask_BL is None else mask_BL.sum(1).tolist()
    return [row[:size] for row, size in zip(rows, sizes, strict=True)]


@pytest.mark.parametrize(("form", "attention"), FORMS)
@settings(deadline=None)
@given(documents=DOCUMENTS, length=st.integers(8, 40))
def test_rows_are_those_of_packing_one_unit_at_a_time(
    write: Callable[..., RowExamples], documents: list, length: int, form: str, attention: str
) -> None:
    examples = write(documents, form, attention, length)
    between, whole = FORMS[form, attention]
    rows = pack(documents, length - 2, between, whole)
    expected = []
    for row in rows:
        tokens = [CLS]
        for number, piece in enumerate(row):
            tokens += [*([CLS] if number and attention == "document" else []), *piece, SEP]
        expected.append(tokens)
    if (form, attention) == ("packed", "row"):
        # Without room for a token of the next document, the row ends with two separators.
        expected[:-1] = [[*row, SEP][:length] for row in expected[:-1]]
        assert all(len(row) == length for row in expected[:-1])
    found = texts(examples.batch(0, np.arange(len(examples))))
    assert found == expected
    assert examples.lengths(0).tolist() == [*map(len, expected)]
    joined = [[token for par in doc for s in par for token in s] for doc in documents]
    owners = np.repeat(np.arange(len(joined)), [*map(len, joined)])
    firsts = np.cumsum([0, *(sum(map(len, row)) for row in rows[:-1])])
    assert examples.documents().tolist() == owners[firsts].tolist()
    mean = np.mean([len(row) for row in rows])
    assert examples.figures()["documents"] == pytest.approx(mean)


@pytest.mark.parametrize("form", ["full_sentences", "packed"])
@settings(deadline=None)
@given(documents=DOCUMENTS, length=st.integers(8, 40), data=st.data())
def test_documents_apart_have_parts_and_positions_of_their_own(
    write: Callable[..., RowExamples], documents: list, length: int, data: st.DataObject, form: str
) -> None:
    examples = write(documents, form, "document", length)
    chosen = np.array(data.draw(st.lists(st.sampled_from(range(len(examples))), min_size=1)))
    batch = examples.batch(3, chosen)
    assert batch.parts_BL is not None
    assert batch.positions_BL is not None
    for ids, parts, positions, size in zip(
        batch.input_ids_BL, batch.parts_BL, batch.positions_BL, examples.lengths(3)[chosen],
        strict=True,
    ):  # fmt: skip
        opens = ids[:size] == CLS
        assert parts[:size].tolist() == (opens.cumsum(0) - 1).tolist()
        starts = np.flatnonzero(opens)
        expected = np.arange(size) - np.repeat(starts, np.diff([*starts, size]))
        assert positions[:size].tolist() == expected.tolist()
    # The same alone, whatever is beside it in the batch.
    one = examples.batch(0, chosen[:1])
    width = one.input_ids_BL.shape[1]
    for name in ("input_ids_BL", "parts_BL", "positions_BL"):
        assert getattr(one, name)[0].equal(getattr(batch, name)[0, :width])


@pytest.mark.parametrize("strategy", STRATEGIES.names())
@pytest.mark.parametrize("attention", ["row", "document"])
def test_units_of_a_strategy_end_with_their_document(
    prepared: Callable[..., Data], strategy: str, attention: str
) -> None:
    data = prepared("task.format=packed", f"task.attention={attention}", "tokenizer.vocab_size=96")
    examples = data.examples
    assert isinstance(examples, MaskedExamples)
    assert isinstance(examples.text, RowExamples)
    assert examples.text.figures()["documents"] > 1.1
    masking = replace(examples.masker.config, strategy=strategy, prob=0.5)
    masker = Masker(Context(masking, data.tokenizer, data.tokens["train"]), 1)
    chosen = np.arange(40)
    ids_BL = examples.unmasked(chosen)
    maskable_BL = ~data.tokenizer.is_special_V[ids_BL]
    starts_BL, _ = masker.units(ids_BL, maskable_BL, chosen, 0)
    special_BL = np.where(maskable_BL, -1, np.arange(ids_BL.shape[1]))
    before_BL = np.maximum.accumulate(special_BL, axis=1)
    assert (starts_BL[maskable_BL] > before_BL[maskable_BL]).all()
    masked = masker.mask(ids_BL, chosen, 0)
    assert not masked.predicted_BL[~maskable_BL].any()
    assert (masked.input_ids_BL == ids_BL)[~maskable_BL].all()


def test_segment_pairs_are_those_of_next_sentences_without_their_label(
    prepared: Callable[..., Data],
) -> None:
    how = ("task.segments=fill", "task.negatives=same_document")
    alone = prepared("task.format=segment_pairs", *how)
    beside = prepared("task=mlm_nsp", *how)
    *_, pairs = alone.examples.layers()
    assert isinstance(pairs, PairExamples)
    assert len(alone.examples) == len(beside.examples)
    chosen = np.arange(12)
    one, other = alone.examples.batch(1, chosen), beside.examples.batch(1, chosen)
    assert one.targets.keys() == {"mlm"}
    assert other.targets.keys() == {"mlm", "nsp"}
    assert one.input_ids_BL.equal(other.input_ids_BL)
    assert one.token_type_ids_BL is not None
    assert other.token_type_ids_BL is not None
    assert one.token_type_ids_BL.equal(other.token_type_ids_BL)
    assert one.targets["mlm"].labels_N.equal(other.targets["mlm"].labels_N)


@pytest.mark.parametrize("tokenizer", ["wordpiece", "bpe"])
def test_all_formats_are_evaluated_on_the_same_bank(
    prepared: Callable[..., Data], tokenizer: str
) -> None:
    trained = (f"tokenizer={tokenizer}", "tokenizer.vocab_size=300")
    plain = prepared(*trained)
    for form in FORMATS.names():
        data = prepared(*trained, f"task.format={form}")
        assert data.bank.reference.fingerprints == plain.bank.reference.fingerprints
        assert data.tokens["train"].fingerprint == plain.tokens["train"].fingerprint
        for one, other in zip(data.evaluators, plain.evaluators, strict=True):
            assert one.reference.fingerprints == other.reference.fingerprints


@pytest.mark.parametrize("family", sorted(p.stem for p in (conf_dir() / "family").iterdir()))
def test_a_packed_document_is_as_it_is_alone_and_no_other_changes_it(
    prepared: Callable[..., Data], small_model: Callable[..., Any], family: str
) -> None:
    """Positions that begin anew are not enough: transformers lets such documents see each other."""
    draw, tokenizer = np.random.default_rng(0), prepared().tokenizer
    documents = [[[draw.integers(5, 200, size).tolist()]] for size in (9, 4, 12, 30, 2, 7)]
    text = build_store(documents)
    rows = RowExamples(text, 32, None, tokenizer, whole=False, crosses=True, apart=True)
    alone = BlockExamples(text, 32, None, tokenizer)
    model = Family.of(small_model("BertForMaskedLM", f"family={family}").eval())

    @torch.no_grad()
    def states(batch: Batch) -> list[torch.Tensor]:
        every_N = torch.arange(batch.input_ids_BL.numel())
        hidden_ND = model.encode(batch.at(every_N, batch.input_ids_BL))
        hidden_BLD = hidden_ND.unflatten(0, batch.input_ids_BL.shape)
        sizes = [len(row) for row in texts(batch)]
        return [row[:size] for row, size in zip(hidden_BLD, sizes, strict=True)]

    packed = rows.batch(0, np.arange(len(rows)))
    assert packed.parts_BL is not None
    before, (one, other, *_) = states(packed), states(alone.batch(0, np.arange(2)))
    assert packed.parts_BL[0].max() == 2, "the third document goes on in the next row"
    second = slice(len(one), len(one) + len(other))
    torch.testing.assert_close(before[0][: len(one)], one, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(before[0][second], other, atol=1e-5, rtol=1e-5)
    ids_BL = packed.input_ids_BL.clone()
    ids_BL[0, len(one) + 1] += 1
    after = states(replace(packed, input_ids_BL=ids_BL))
    assert not torch.allclose(after[0][second], before[0][second], atol=1e-3)
    for found in (before, after):
        found[0][second] = 0
    for row, changed in zip(before, after, strict=True):
        torch.testing.assert_close(changed, row, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("overrides", "label"),
    [
        ((), "mlm-p0.15-s0"),
        (("task.format=packed",), "mlm-packed-p0.15-s0"),
        (
            ("task=diffusion", "task.format=full_sentences", "task.attention=document"),
            "diffusion-full_sentences-document-",
        ),
    ],
)
def test_a_run_is_named_for_its_format(
    experiment_config: Callable[..., Config], overrides: tuple[str, ...], label: str
) -> None:
    config = experiment_config(*overrides)
    parts = Pretraining(config).identity()
    assert identify(config.tracker, parts, seed=0, sweep=None).name.startswith(label)
