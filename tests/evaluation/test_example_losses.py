"""The loss of every example of the bank, as it lies in a run's folder."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn.functional import cross_entropy

from bertexp.evaluation import LOSSES_FILE
from bertexp.evaluation.bank import example_losses, predict, write_example_losses
from bertexp.experiment.prepare import Data
from bertexp.objectives.learner import Learner

CPU = torch.device("cpu")


def test_they_add_up_to_the_loss_at_each_rate(
    cut_words: Callable[..., Data], untrained: Callable[..., Any]
) -> None:
    data = cut_words()
    answers = predict(Learner(untrained(data), data.task.objectives), data.bank, CPU)
    table = example_losses(data.bank, answers)
    metrics = data.bank.metrics(answers)
    assert table.num_rows == 2 * 24
    for asked in data.bank.all_sets:
        rows = table.filter(pc.field("rate") == asked.condition)
        total, count = pc.sum(rows["loss"]).as_py(), pc.sum(rows["count"]).as_py()
        assert count == sum(len(batch.targets["mlm"].labels_N) for batch in asked.batches)
        assert total / count == pytest.approx(metrics[f"eval/loss@{asked.condition:g}"])


def test_each_is_what_transformers_model_gives(
    cut_words: Callable[..., Data], untrained: Callable[..., Any]
) -> None:
    data = cut_words("evaluation.max_examples=12")
    model = untrained(data).eval()
    rows = example_losses(
        data.bank, predict(Learner(model, data.task.objectives), data.bank, CPU)
    ).to_pylist()
    found = {(row["rate"], row["example"]): row for row in rows}
    assert list(found) == sorted(found)
    for asked in data.bank.all_sets:
        for batch in asked.batches:
            labels = torch.full((batch.input_ids_BL.numel(),), -100)
            labels[batch.targets["mlm"].positions_N] = batch.targets["mlm"].labels_N
            with torch.no_grad():
                logits = model(batch.input_ids_BL, attention_mask=batch.attention_mask_BL).logits
            for example, scores, row_labels in zip(
                batch.example_ids, logits, labels.view(len(logits), -1), strict=True
            ):
                row = found.pop((asked.condition, example))
                loss = cross_entropy(scores, row_labels, reduction="sum").item()
                assert row["loss"] == pytest.approx(loss, rel=1e-5)
                assert row["count"] == (row_labels >= 0).sum()
                assert row["objective"] == "mlm"
    assert not found


@pytest.mark.parametrize("task", ["mlm", "nsp", "mlm_nsp"])
def test_an_example_is_from_the_document_it_names(
    task: str, cut_words: Callable[..., Data]
) -> None:
    data = cut_words(f"task={task}", "evaluation.max_examples=null")
    store = data.tokens["validation"]
    starts = store.document_token_offsets
    special = data.tokenizer.is_special_V
    for asked in data.bank.all_sets:
        if asked.condition == "swap":
            continue  # the first segment is the later one
        for batch in asked.batches:
            ids = batch.input_ids_BL.flatten().clone()
            if "mlm" in batch.targets:
                ids[batch.targets["mlm"].positions_N] = batch.targets["mlm"].labels_N
            rows = ids.view(len(batch.example_ids), -1).tolist()
            for example, (_, *row) in zip(batch.example_ids, rows, strict=True):
                document = asked.documents[example]
                text = store.tokens[starts[document] : starts[document + 1]].tolist()
                block = list(itertools.takewhile(lambda token: not special[token], row))
                places = range(len(text) - len(block) + 1)
                assert any(text[at : at + len(block)] == block for at in places)


def test_pairs_have_one_answer_an_example(
    cut_words: Callable[..., Data], untrained: Callable[..., Any]
) -> None:
    data = cut_words("task=nsp")
    answers = predict(Learner(untrained(data), data.task.objectives), data.bank, CPU)
    table = example_losses(data.bank, answers)
    assert table["rate"].null_count == table.num_rows == 3 * 24
    assert set(table["count"].to_pylist()) == {1}
    assert set(table["objective"].to_pylist()) == {"nsp"}
    metrics = data.bank.metrics(answers)
    for kind in ("other_document", "same_document", "swap"):
        rows = table.filter(pc.field("negatives") == kind)
        assert pc.mean(rows["loss"]).as_py() == pytest.approx(metrics[f"eval/nsp_loss@{kind}"])


def test_the_file_holds_them_and_the_banks_fingerprint(
    cut_words: Callable[..., Data], untrained: Callable[..., Any], tmp_path: Path
) -> None:
    data = cut_words()
    table = example_losses(
        data.bank, predict(Learner(untrained(data), data.task.objectives), data.bank, CPU)
    )
    write_example_losses(tmp_path, table)
    assert [path.name for path in tmp_path.iterdir()] == [LOSSES_FILE]
    found = pq.read_table(tmp_path / LOSSES_FILE)
    assert found.equals(table)
    assert json.loads(found.schema.metadata[b"bank"]) == data.bank.fingerprints
