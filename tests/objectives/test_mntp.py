"""Masked next-token prediction and its limit, against transformers' encoder and decoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoTokenizer, BertLMHeadModel

from bertexp.config import Config
from bertexp.data.config import SyntheticKeys
from bertexp.data.corpora.synthetic import HIDDEN, Language
from bertexp.evaluation import scoring
from bertexp.evaluation.bank import evaluate, predict
from bertexp.evaluation.pseudo_perplexity import pseudo_likelihood
from bertexp.experiment.prepare import Data
from bertexp.experiment.saved import find_saved
from bertexp.families.build import build_model
from bertexp.families.checkpoint import export_model
from bertexp.families.inputs import Inputs
from bertexp.objectives.causal import HybridExamples
from bertexp.objectives.learner import Learner
from bertexp.objectives.mntp import CAUSAL
from bertexp.predict.prediction import Predictor
from bertexp.predict.unmasking import Unmasking, unmask
from bertexp.validation import UserError

CPU = torch.device("cpu")
HALF = ("task=mntp", "task.mntp.causal_share=0.5")


def decoder_of(model: Any) -> Any:
    """Return the causal language model of transformers with a model's weights."""
    config = type(model.config).from_dict(model.config.to_dict() | {"is_decoder": True})
    decoder = BertLMHeadModel(config).eval()
    decoder.load_state_dict(model.state_dict())
    return decoder


def test_the_loss_balances_an_encoder_read_one_token_earlier_and_a_decoder(
    prepared: Callable[..., Data], small_model: Callable[..., Any]
) -> None:
    data, chosen, rate = prepared(*HALF), np.arange(16), 0.15
    assert isinstance(data.examples, HybridExamples)
    model = small_model("BertForMaskedLM").eval()
    decoder = decoder_of(model)
    batch = data.examples.batch(2, chosen)
    learner = Learner(model, data.task.objectives)
    loss = learner(batch)["mntp"] / batch.predictions["mntp"]
    loss.backward()
    gradient = model.get_input_embeddings().weight.grad

    written = data.examples.written(2, chosen)
    special_V = torch.from_numpy(data.tokenizer.is_special_V)
    assert batch.causal_B is not None
    assert 2 < batch.causal_B.sum() < 14
    total, tokens = torch.zeros(()), 0
    encoder = type(model)(model.config).eval()
    encoder.load_state_dict(model.state_dict())
    for row, is_causal in enumerate(batch.causal_B.tolist()):
        size = int(batch.attention_mask_BL[row].sum()) if batch.attention_mask_BL is not None else 0
        size = size or batch.input_ids_BL.shape[1]
        ids_L, seen_L = written.input_ids_BL[row, :size], batch.input_ids_BL[row, :size]
        tokens += int((~special_V[ids_L]).sum())
        if is_causal:
            assert seen_L.equal(ids_L)
            labels_L = ids_L.masked_fill(special_V[ids_L], -100)
            count = int((labels_L != -100).sum())
            found = decoder(ids_L[None], labels=labels_L[None], use_cache=False).loss
            total = total + found * count
            continue
        masker = data.examples.masker
        places = masker.mask(ids_L[None].numpy(), chosen[row, None], 2).predicted_BL[0].nonzero()[0]
        logits_LV = encoder(seen_L[None]).logits[0]
        nats = functional.cross_entropy(logits_LV[places - 1], ids_L[places], reduction="sum")
        total = total + nats / rate
    (total / tokens).backward()
    torch.testing.assert_close(loss, total / tokens, rtol=1e-5, atol=1e-6)
    assert gradient is not None
    both = [each.get_input_embeddings().weight.grad for each in (encoder, decoder)]
    torch.testing.assert_close(gradient, both[0] + both[1], atol=1e-5, rtol=1e-4)


def test_the_causal_loss_is_that_of_a_decoder(
    prepared: Callable[..., Data], small_model: Callable[..., Any]
) -> None:
    data, model = prepared("task=clm"), small_model("BertForMaskedLM").eval()
    learner = Learner(model, data.task.objectives)
    decoder = decoder_of(model)
    special_V = torch.from_numpy(data.tokenizer.is_special_V)
    (causal,) = (one for one in data.bank.all_sets if one.condition == CAUSAL)
    total, count = 0.0, 0
    with torch.no_grad():
        for batch in causal.batches:
            ids_BL, mask_BL = batch.input_ids_BL, batch.attention_mask_BL
            labels_BL = ids_BL.masked_fill(special_V[ids_BL], -100)
            each = int((labels_BL != -100).sum())
            given: dict[str, Any] = {"attention_mask": mask_BL, "labels": labels_BL}
            total += float(decoder(ids_BL, use_cache=False, **given).loss) * each
            count += each
    found = evaluate(learner, data.bank, CPU)
    assert found["eval/causal_loss"] == pytest.approx(total / count, rel=1e-5)
    assert found["eval/causal_perplexity"] == pytest.approx(np.exp(total / count), rel=1e-4)


def test_its_masked_bank_is_that_of_mlm_read_one_token_earlier(
    prepared: Callable[..., Data], small_model: Callable[..., Any]
) -> None:
    data, plain = prepared("task=mntp"), prepared("task=mlm")
    assert data.bank.reference.fingerprints["mntp"] == plain.bank.reference.fingerprints["mlm"]
    assert (
        data.bank.reference.fingerprints["mntp@causal"]
        == prepared("task=clm").bank.reference.fingerprints["clm@causal"]
    )
    model = small_model("BertForMaskedLM").eval()
    found, *_ = predict(Learner(model, data.task.objectives), data.bank, CPU)
    nats = []
    for batch in found.of.batches:
        target = batch.targets["mntp"]
        with torch.no_grad():
            logits = model(batch.input_ids_BL, attention_mask=batch.attention_mask_BL).logits
        earlier = logits.flatten(0, 1)[target.positions_N - 1]
        nats.append(functional.cross_entropy(earlier, target.labels_N, reduction="none"))
    np.testing.assert_allclose(found.losses, torch.cat(nats).numpy(), rtol=1e-4, atol=1e-5)


def test_a_text_is_scored_one_token_earlier(
    prepared: Callable[..., Data], small_model: Callable[..., Any]
) -> None:
    data, model = prepared("task=mntp"), small_model("BertForMaskedLM").eval()
    tokenizer, text = data.tokenizer, np.array([30, 31, 32, 33, 34])
    learner = Learner(model, data.task.objectives)
    found = pseudo_likelihood(learner, tokenizer, [text], 64, CPU).log_likelihoods[0]
    row = tokenizer.sequence(text)
    for place in range(1, 6):
        ids_1L = torch.from_numpy(row.astype(np.int64))[None].clone()
        ids_1L[0, place] = tokenizer.mask_id
        with torch.no_grad():
            chances_V = model(ids_1L).logits[0, place - 1].log_softmax(-1)
        assert found[place - 1] == pytest.approx(float(chances_V[text[place - 1]]), abs=1e-4)


def test_a_share_is_decided_by_the_number_of_each_example(prepared: Callable[..., Data]) -> None:
    examples = prepared("task=mntp", "task.mntp.causal_share=0.25").examples
    assert isinstance(examples, HybridExamples)
    every = np.arange(len(examples))
    causal = np.stack([examples.is_causal(epoch, every) for epoch in range(40)])
    assert causal.mean() == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / causal.size) ** 0.5)
    assert (causal[0] != causal[1]).any()
    assert (examples.strata(3) % 2 == causal[3]).all()
    together, alone = examples.batch(3, every[:9]), examples.batch(3, every[4:5])
    assert together.causal_B is not None
    assert together.causal_B.tolist() == causal[3, :9].tolist()
    assert alone.causal_B is not None
    assert alone.causal_B[0] == together.causal_B[4]
    size = alone.input_ids_BL.shape[1]
    assert alone.input_ids_BL[0].equal(together.input_ids_BL[4, :size])
    # What is counted as masked is what is masked.
    assert together.masked <= 0.2 * together.maskable
    assert together.predicted == len(together.targets["mntp"]) > together.masked


def test_the_limits_are_shifted_mlm_and_clm(prepared: Callable[..., Data]) -> None:
    chosen = np.arange(8)
    none, all_of_them, mlm, clm = (
        prepared(*overrides).examples.batch(1, chosen)
        for overrides in (
            ("task=mntp", "task.mntp.causal_share=0"),
            ("task=mntp", "task.mntp.causal_share=1"),
            ("task=mlm",),
            ("task=clm",),
        )
    )
    assert none.input_ids_BL.equal(mlm.input_ids_BL)
    assert none.targets["mntp"].labels_N.equal(mlm.targets["mlm"].labels_N)
    assert none.causal_B is None
    assert all_of_them.input_ids_BL.equal(clm.input_ids_BL)
    assert all_of_them.targets["mntp"].labels_N.equal(clm.targets["clm"].labels_N)
    assert clm.causal_B is not None
    assert clm.causal_B.all()
    assert clm.masked == 0
    assert clm.predicted == len(clm.targets["clm"])


def test_the_optimum_on_a_made_up_language_is_its_entropy(prepared: Callable[..., Data]) -> None:
    """By the distribution of a hidden word when all words after it are hidden too."""
    language = Language.of(SyntheticKeys())
    words_BL = language.draw(np.random.default_rng(0), 3, 9)[1]
    found_BL = language.next_log_probs(words_BL)
    for place in range(9):
        hidden_BL = np.where(np.arange(9) < place, words_BL, HIDDEN)
        chances_BW = language.log_probs(hidden_BL)[:, place]
        expected_B = chances_BW[np.arange(3), words_BL[:, place]]
        np.testing.assert_allclose(found_BL[:, place], expected_B, atol=1e-9)
    optimum = prepared("task=clm").reference.optimum
    assert optimum["eval/loss"] < optimum["eval/causal_loss"] < np.log(len(language.words))


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["task=mntp", "task.objectives=[mntp,mlm]"], r"^task\.objectives=.* must be mntp alone"),
        (["task=mntp", "task.mntp.causal_share=1.5"], r"^task\.mntp\.causal_share=1\.5: must be "),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    prepared: Callable[..., Data], overrides: list[str], reason: str
) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        prepared(*overrides)
    assert "\n" not in str(caught.value)


def test_masking_is_not_read_where_nothing_is_masked(
    experiment_config: Callable[..., Config],
) -> None:
    assert experiment_config("task=mntp").task.masks
    assert not experiment_config("task=clm").task.masks


def test_a_causal_model_reads_and_writes_as_a_decoder(
    prepared: Callable[..., Data],
    small_model: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, model = prepared("task=clm"), small_model("BertForMaskedLM").eval()
    tokenizer, text = data.tokenizer, np.array([30, 31, 32, 33, 34])
    learner, decoder = Learner(model, data.task.objectives), decoder_of(model)
    row_1L = torch.from_numpy(tokenizer.sequence(text).astype(np.int64))[None]
    texts = [text, text[:2], text[[4, 0, 2]], text[1:]]
    for tokens in (8192, 40):
        monkeypatch.setattr(scoring, "BATCH_TOKENS", tokens)
        found = pseudo_likelihood(learner, tokenizer, texts, 64, CPU)
        for one, scores in zip(texts, found.log_likelihoods, strict=True):
            ids_1L = torch.from_numpy(tokenizer.sequence(one))[None]
            with torch.no_grad():
                chances_LV = decoder(ids_1L, use_cache=False).logits[0].log_softmax(-1)
            expected_L = chances_LV[np.arange(len(one)), one].numpy()
            np.testing.assert_allclose(scores, expected_L, atol=1e-4)

    def logits(ids: list[int], places: list[int]) -> torch.Tensor:
        inputs = Inputs(
            input_ids_BL=torch.tensor([ids]),
            queries_BP=torch.tensor([places]),
            slots_U=torch.arange(len(places)),
        )
        return learner.masked_logits(inputs)

    ids, places = [*row_1L[0, :4].tolist(), *[tokenizer.mask_id] * 6], [*range(4, 10)]
    allowed_V = ~tokenizer.is_special_V
    with torch.no_grad():
        written = unmask(logits, ids, places, allowed_V, Unmasking(in_order=True))
        for each, place in zip(written, places, strict=True):
            assert each.place == place
            chances_V = decoder(torch.tensor([ids[:place]]), use_cache=False).logits[0, -1]
            chances_V[: len(allowed_V)][~torch.from_numpy(allowed_V)] = -torch.inf
            assert each.token == int(chances_V.argmax())
            ids[place] = each.token


def test_a_model_apart_from_its_run_says_how_it_predicts(
    prepared: Callable[..., Data], small_model: Callable[..., Any], tmp_path: Path
) -> None:
    data, model = prepared("task=mntp"), small_model("BertForMaskedLM")
    Learner(model, data.task.objectives)
    export_model(model, data.tokenizer, 64, tmp_path / "model")
    with pytest.raises(UserError, match=r"predicts as task=mntp does, whose keys are in its run's"):
        Predictor(find_saved(str(tmp_path / "model")))
    # Trained further on masked tokens, it is a model like any other.
    Learner(model, prepared("task=mlm").task.objectives)
    export_model(model, data.tokenizer, 64, tmp_path / "model")
    Predictor(find_saved(str(tmp_path / "model")))


@pytest.mark.parametrize("family", ["bert", "roberta", "electra"])
def test_a_card_says_how_a_causal_model_is_loaded_as_one(
    prepared: Callable[..., Data],
    experiment_config: Callable[..., Config],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    family: str,
) -> None:
    data = prepared("task=clm")
    sizes = ("model.hidden_size=32", "model.intermediate_size=64", "model.dropout=0")
    config = experiment_config(*sizes, f"family={family}", "model.initializer_range=0.5")
    heads = frozenset({"masked"})
    model = build_model(config.family, config.model, heads, data.tokenizer, 64, 0).eval()
    learner = Learner(model, data.task.objectives)
    (objective,) = data.task.objectives
    export_model(model, data.tokenizer, 64, tmp_path)
    tag, lines = objective.usage(model.config.model_type) or ("", "")
    assert tag == "text-generation"
    found: dict[str, Any] = {
        "folder": str(tmp_path),
        "tokenizer": AutoTokenizer.from_pretrained(tmp_path),
    }
    exec(lines, found)
    assert capfd.readouterr().out.strip()
    ids_BL = found["ids"].repeat(2, 1)
    used = torch.arange(ids_BL.numel())
    queries_BP = torch.arange(ids_BL.shape[1]).expand_as(ids_BL)
    inputs = Inputs(input_ids_BL=ids_BL, queries_BP=queries_BP, slots_U=used)
    with torch.no_grad():
        logits_BLV = found["writer"](ids_BL, use_cache=False).logits
        own_BLV = learner.masked_logits(inputs).unflatten(0, ids_BL.shape)
    torch.testing.assert_close(own_BLV[:, 1:], logits_BLV[:, :-1], atol=1e-4, rtol=1e-4)
