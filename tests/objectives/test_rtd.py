"""Replaced-token detection: its losses against transformers, what is shared, what is exported."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from rich.console import Console
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode, mm_flop

from bertexp.config import Config
from bertexp.evaluation.bank import evaluate, predict
from bertexp.experiment.prepare import Data
from bertexp.families.build import build_model
from bertexp.families.checkpoint import export_model
from bertexp.objectives.generator import draw, tables_of
from bertexp.objectives.learner import Learner
from bertexp.objectives.replaced import Masks
from bertexp.objectives.rtd import area
from bertexp.objectives.samples import ReplacedSample
from bertexp.training.shards import other_models, own_weights

CPU = torch.device("cpu")
EMBEDDINGS = ["tied", "gdes", "none"]
SMALL = (
    *("task=rtd", "model.hidden_size=32", "model.num_attention_heads=4"),
    *("model.intermediate_size=48", "evaluation.evaluators=[]"),
)


@pytest.fixture(scope="module")
def built(
    experiment_config: Callable[..., Config], prepared: Callable[..., Data]
) -> Callable[..., tuple[Learner, Data]]:
    """Return a function that builds what a run trains, with weights that differ from the first."""

    def build(*overrides: str) -> tuple[Learner, Data]:
        data, config = prepared(*SMALL, *overrides), experiment_config(*SMALL, *overrides)
        parts = (config.family, config.model, data.task.heads, data.tokenizer, 128, 0)
        learner = Learner(build_model(*parts), data.task.objectives)
        with torch.no_grad():
            for parameter in learner.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        return learner, data

    return build


def export(learner: Learner, data: Data, folder: Path) -> Path:
    own, others = own_weights(learner, to_export=True), other_models(learner)
    export_model(learner.model, data.tokenizer, 128, folder / "model", None, own, "", others)
    return folder / "model"


@pytest.mark.parametrize("embeddings", EMBEDDINGS)
@pytest.mark.parametrize("family", ["electra", "bert", "modernbert"])
def test_its_losses_are_those_of_the_exported_models(
    built: Callable[..., tuple[Learner, Data]], tmp_path: Path, family: str, embeddings: str
) -> None:
    """Of ``transformers``' own classes, with tokens drawn here in double precision."""
    keys = ("task.rtd.temperature=0.7", "task.rtd.generator=0.5")
    learner, data = built(f"family={family}", f"task.rtd.embeddings={embeddings}", *keys)
    batch = data.examples.batch(1, np.arange(6))
    losses = {name: loss.item() for name, loss in learner.eval()(batch).items()}
    folder = export(learner, data, tmp_path)
    small = transformers.AutoModelForMaskedLM.from_pretrained(folder / "generator").eval()
    assert (small.config.hidden_size, small.config.num_hidden_layers) == (16, 2)

    masks: Any = batch.targets["generator"]
    written_BL = data.examples.written(1, np.arange(6)).input_ids_BL
    masked_BL = masks.input_ids_BL == data.tokenizer.mask_id
    labels_BL = written_BL.masked_fill(~masked_BL, -100)
    found = small(masks.input_ids_BL, attention_mask=batch.attention_mask_BL, labels=labels_BL)
    assert losses["generator"] / len(masks) == pytest.approx(found.loss.item(), rel=1e-5)

    shares_NV = (found.logits[masked_BL].double() / 0.7).softmax(-1).detach().numpy()
    drawn_N = [
        np.searchsorted(share_V.cumsum(), chance)
        for share_V, chance in zip(shares_NV, masks.chances_N.numpy(), strict=True)
    ]
    input_BL = written_BL.clone()
    input_BL[masked_BL] = torch.tensor(drawn_N)
    replaced_BL = (input_BL != written_BL).float()
    if family == "electra":
        model: Any = transformers.ElectraForPreTraining.from_pretrained(folder).eval()
        logits_BL = model(input_BL, attention_mask=batch.attention_mask_BL).logits
    else:
        model = transformers.AutoModel.from_pretrained(folder).eval()
        hidden_BLD = model(input_BL, attention_mask=batch.attention_mask_BL).last_hidden_state
        own: Any = learner.own["rtd"]
        logits_BL = own["head"](hidden_BLD).squeeze(-1)
    is_text_BL = torch.from_numpy(~data.tokenizer.is_special_V[written_BL.numpy()])
    parts = (logits_BL[is_text_BL], replaced_BL[is_text_BL])
    expected = functional.binary_cross_entropy_with_logits(*parts)
    count = batch.predictions["rtd"]
    assert count == is_text_BL.sum() > batch.predicted > 0
    assert losses["rtd"] / count == pytest.approx(expected.item(), rel=1e-5)


def test_an_exported_model_has_the_figures_of_the_trained_one(
    built: Callable[..., tuple[Learner, Data]], tmp_path: Path
) -> None:
    learner, data = built("task.rtd.embeddings=gdes")
    before = evaluate(learner, data.bank, CPU)
    folder = export(learner, data, tmp_path)
    model = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False)
    again = Learner(model, data.task.objectives)
    again.load_own(folder)
    after = evaluate(again, data.bank, CPU)
    assert after == pytest.approx(before, rel=1e-6)
    assert after["eval/loss"] == after["eval/rtd_loss"] > 0 < after["eval/generator_loss"]


@pytest.mark.parametrize("embeddings", EMBEDDINGS)
def test_which_loss_reaches_which_embeddings(
    built: Callable[..., tuple[Learner, Data]], embeddings: str
) -> None:
    learner, data = built(f"task.rtd.embeddings={embeddings}")
    losses = learner(data.examples.batch(0, np.arange(4)))
    own: Any = learner.own["rtd"]
    shared = {
        "tied": tables_of(learner.model) if embeddings == "tied" else {},
        "gdes": dict(enumerate(own["generator"].tables)),
        "none": tables_of(own["generator"].model) if embeddings == "none" else {},
    }[embeddings]
    assert len(shared) == 3
    words = next(iter(shared.values()))
    (of_model,) = torch.autograd.grad(
        losses["rtd"], words.weight, retain_graph=True, allow_unused=True
    )
    (of_generator,) = torch.autograd.grad(losses["generator"], words.weight, retain_graph=True)
    assert of_generator.abs().sum() > 0
    assert (of_model is not None) == (embeddings == "tied")
    sum(losses.values()).backward()  # type: ignore[union-attr]
    missing = [name for name, p in learner.named_parameters() if p.grad is None]
    assert not missing, "processes would wait for these"
    if embeddings == "gdes":
        table = own["generator"].tables[0].weight + own["generator"].added[0].weight
        assert table.equal(learner.model.get_input_embeddings().weight)
        assert table.equal(learner.model.state_dict()["embeddings.word_embeddings.weight"])


def test_a_new_model_begins_as_if_nothing_were_shared(
    experiment_config: Callable[..., Config], prepared: Callable[..., Data]
) -> None:
    words = []
    for embeddings in EMBEDDINGS:
        overrides = (*SMALL, f"task.rtd.embeddings={embeddings}")
        data, config = prepared(*overrides), experiment_config(*overrides)
        parts = (config.family, config.model, data.task.heads, data.tokenizer, 128, 0)
        learner = Learner(build_model(*parts), data.task.objectives)
        words.append(learner.model.get_input_embeddings().weight)
    assert words[0].equal(words[1]) and words[0].equal(words[2])


def test_drawn_tokens_have_the_predicted_distribution() -> None:
    torch.manual_seed(0)
    logits_1V = 2 * torch.randn(1, 40)
    chances_N = (torch.arange(100_000) + 0.5) / 100_000
    drawn_N = draw(logits_1V.expand(len(chances_N), -1), chances_N)
    found_V = torch.bincount(drawn_N, minlength=40) / len(drawn_N)
    torch.testing.assert_close(found_V, logits_1V[0].softmax(-1), atol=3e-5, rtol=0)
    ends = draw(logits_1V.expand(2, -1), torch.tensor([0.0, 1.0]))
    assert ends.tolist() == [0, 39]


def test_a_draw_depends_on_seed_epoch_and_example_alone(
    built: Callable[..., tuple[Learner, Data]],
) -> None:
    _, data = built()

    def chances(example_ids: np.ndarray, example: int, epoch: int) -> list[float]:
        batch = data.examples.batch(epoch, example_ids)
        masks = batch.targets["generator"]
        assert isinstance(masks, Masks)
        own = example_ids[masks.rows(batch.input_ids_BL.shape[1])] == example
        found: list[float] = masks.chances_N[torch.from_numpy(own)].tolist()
        return found

    order = np.argsort(data.examples.lengths(0))
    first, last = order[0], order[-1]
    alone = chances(order[:1], first, 1)
    assert alone == chances(np.array([last, first]), first, 1) and len(alone) > 0
    assert alone != chances(order[:1], first, 0)


@pytest.mark.parametrize(
    "overrides",
    [
        ("task.rtd.embeddings=tied",),
        ("task.rtd.embeddings=gdes", "task.rtd.generator=1", "task.rtd.depth=0.5"),
        ("family=electra",),
        ("family=deberta_v2",),
    ],
)
def test_its_operations_are_counted(
    built: Callable[..., tuple[Learner, Data]], overrides: tuple[str, ...]
) -> None:
    learner, data = built(*overrides)
    batch = data.examples.batch(0, np.arange(8))
    in_place: Any = {torch.ops.aten.addmm_: lambda _, left, right, **__: mm_flop(left, right)}
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        torch.stack([*learner(batch).values()]).sum().backward()
    assert learner.flops(batch) == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert not any(loss.item() for loss in learner(batch.idle()).values())
    longer = batch.padded_to(batch.input_ids_BL.shape[1] + 8)
    for name, loss in learner.eval()(longer).items():
        torch.testing.assert_close(loss, learner(batch)[name], rtol=1e-4, atol=1e-4)


def test_its_bank_is_the_same_for_every_generator(
    built: Callable[..., tuple[Learner, Data]], prepared: Callable[..., Data]
) -> None:
    learner, data = built()
    _, other = built("task.rtd.generator=1", "masking.prob=0.3", "seed=3", "task.rtd.temperature=2")
    assert data.bank.reference.fingerprints == other.bank.reference.fingerprints
    own, masked = data.bank.reference.fingerprints, prepared("task=mlm").bank.reference.fingerprints
    assert own["generator"] == masked["mlm"] != own["rtd"]
    for one in (each for each in data.bank.all_sets if each.objective == "rtd"):
        replaced = one.labels.double().mean().item()
        assert isinstance(one.condition, float)
        assert 0.85 * one.condition < replaced < one.condition
        (found,) = (each for each in predict(learner, data.bank, CPU) if each.of is one)
        labels = one.labels.numpy()
        chances = np.where(labels, np.exp(-found.losses), -np.expm1(-found.losses))
        gaps = chances[labels == 1][:, None] - chances[labels == 0]
        assert area(found) == pytest.approx((gaps > 0).mean() + (gaps == 0).mean() / 2)


def test_a_sample_in_a_file_tells_what_was_replaced_and_what_the_model_thinks() -> None:
    sample = ReplacedSample(["a", "b", "c", "d"], [1, 1, 0, 0], [0.9, 0.2, 0.7, 0.1])
    console = Console(file=io.StringIO(), width=80)
    console.print(sample.shown())
    assert isinstance(console.file, io.StringIO)
    text, note, *_ = console.file.getvalue().splitlines()
    assert text.rstrip() == "[a 0.90] [b 0.20] (c 0.70) d"
    assert note.startswith("  [replaced] and (wrongly suspected) tokens")
