"""Metrics and the loss of every example of the bank, against transformers' own models."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
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


def measured(data: Data, model: Any) -> tuple[pa.Table, dict[str, float]]:
    predictions = predict(Learner(model, data.task.objectives), data.bank, CPU)
    assert not model.training, "dropout would change the metrics from one time to the next"
    return example_losses(data.bank, predictions), data.bank.metrics(predictions)


def test_masked_tokens_are_predicted_as_by_transformers_model(
    cut_words: Callable[..., Data], untrained: Callable[..., Any]
) -> None:
    data = cut_words("evaluation.max_examples=12")
    model = untrained(data)
    table, metrics = measured(data, model)
    found = {(row["rate"], row["example"]): row for row in table.to_pylist()}
    assert list(found) == sorted(found)
    expected, hits = {}, []
    for one in data.bank.all_sets:
        every, right = [], []
        for batch in one.batches:
            target, length = batch.targets["mlm"], batch.input_ids_BL.shape[1]
            with torch.no_grad():
                logits = model(batch.input_ids_BL, attention_mask=batch.attention_mask_BL).logits
            logits = logits.flatten(0, 1)[target.positions_N]
            losses = cross_entropy(logits, target.labels_N, reduction="none")
            rows = target.positions_N // length
            for number, example in enumerate(batch.example_ids):
                row, own = found.pop((one.condition, example)), losses[rows == number]
                assert (row["objective"], row["count"]) == ("mlm", len(own))
                assert row["loss"] == pytest.approx(own.sum().item(), rel=1e-5)
            every.append(losses)
            right.append(logits.argmax(-1) == target.labels_N)
        expected[f"eval/loss@{one.name}"] = torch.cat(every).mean().item()
        hits.append(torch.cat(right).float().mean().item())
    assert not found
    loss = np.mean([*expected.values()])
    expected |= {"eval/loss": loss, "eval/accuracy": np.mean(hits), "eval/perplexity": np.exp(loss)}
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-4, rel=1e-5)


def test_pairs_are_predicted_as_by_transformers_model(
    cut_words: Callable[..., Data], untrained: Callable[..., Any]
) -> None:
    data = cut_words("task=nsp", "task.negatives={other_document: 0.25, same_document: 0.75}")
    model = untrained(data)
    table, metrics = measured(data, model)
    assert table["rate"].null_count == table.num_rows == 3 * 24
    assert set(table["count"].to_pylist()) == {1}
    expected = {}
    for one in data.bank.all_sets:
        logits, labels = [], []
        for batch in one.batches:
            with torch.no_grad():
                output = model(
                    batch.input_ids_BL,
                    attention_mask=batch.attention_mask_BL,
                    token_type_ids=batch.token_type_ids_BL,
                )
            logits.append(output.logits)
            labels.append(batch.targets["nsp"].labels_N)
        loss = cross_entropy(torch.cat(logits), torch.cat(labels)).item()
        right = torch.cat(logits).argmax(-1) == torch.cat(labels)
        expected[f"eval/nsp_loss@{one.name}"] = loss
        expected[f"eval/nsp_accuracy@{one.name}"] = right.float().mean().item()
        rows = table.filter(pc.field("negatives") == one.name)
        assert pc.mean(rows["loss"]).as_py() == pytest.approx(loss, rel=1e-5)
    # Trained on 25% and 75% of two kinds.
    for name in ("loss", "accuracy"):
        other, same = (expected[f"eval/nsp_{name}@{kind}_document"] for kind in ("other", "same"))
        expected[f"eval/nsp_{name}"] = 0.25 * other + 0.75 * same
    expected["eval/loss"] = expected["eval/nsp_loss"]
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("task", ["mlm", "nsp", "mlm_nsp"])
def test_an_example_is_from_the_document_it_names(
    task: str, cut_words: Callable[..., Data]
) -> None:
    data = cut_words(f"task={task}", "evaluation.max_examples=null")
    store = data.tokens["validation"]
    starts = store.document_token_offsets
    special = data.tokenizer.is_special_V
    for one in data.bank.all_sets:
        if one.condition == "swap":
            continue  # the first segment is the later one
        for batch in one.batches:
            ids = batch.input_ids_BL.flatten().clone()
            if "mlm" in batch.targets:
                ids[batch.targets["mlm"].positions_N] = batch.targets["mlm"].labels_N
            rows = ids.view(len(batch.example_ids), -1).tolist()
            for example, (_, *row) in zip(batch.example_ids, rows, strict=True):
                document = one.documents[example]
                text = store.tokens[starts[document] : starts[document + 1]].tolist()
                block = list(itertools.takewhile(lambda token: not special[token], row))
                places = range(len(text) - len(block) + 1)
                assert any(text[at : at + len(block)] == block for at in places)


def test_the_file_holds_them_and_the_banks_fingerprint(
    cut_words: Callable[..., Data], untrained: Callable[..., Any], tmp_path: Path
) -> None:
    data = cut_words()
    table, _ = measured(data, untrained(data))
    write_example_losses(tmp_path, table)
    assert [path.name for path in tmp_path.iterdir()] == [LOSSES_FILE]
    found = pq.read_table(tmp_path / LOSSES_FILE)
    assert found.equals(table)
    assert json.loads(found.schema.metadata[b"bank"]) == data.bank.reference.fingerprints
