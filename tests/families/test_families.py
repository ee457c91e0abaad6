"""Every family: the losses and gradients of transformers, and models that any tool loads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, mm_flop

from bertexp.config import Config
from bertexp.experiment.prepare import Data
from bertexp.families import FAMILIES
from bertexp.families.base import LABEL, MASKED, Family
from bertexp.families.build import build_model, check_model
from bertexp.families.checkpoint import export_model, load_classifier, load_model
from bertexp.families.trials import packs_correctly
from bertexp.objectives.learner import Learner
from bertexp.objectives.positions import packed
from bertexp.validation import UserError

# Those with a class of their own, and some of the others.
NAMES = [*FAMILIES.names(), "eurobert", "mpnet", "esm", "xlm-roberta", "albert"]
SIZES = (
    *("model.hidden_size=32", "model.num_attention_heads=4", "model.num_hidden_layers=4"),
    *("model.intermediate_size=48", "model.initializer_range=0.2", "model.dropout=0"),
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def build(
    experiment_config: Callable[..., Config], prepared: Callable[..., Data]
) -> Callable[..., Any]:
    """Return a function that builds a model of a family, as a run does."""

    def made(family: str, *overrides: str) -> Any:
        config = experiment_config(f"family.name={family}", *SIZES, *overrides)
        tokenizer = prepared().tokenizer
        return build_model(config.family, config.model, frozenset({MASKED}), tokenizer, 128, 0)

    return made


@pytest.mark.parametrize("family", NAMES)
@pytest.mark.parametrize("padded", [False, True])
def test_losses_and_gradients_are_those_of_transformers(
    build: Callable[..., Any], prepared: Callable[..., Data], family: str, padded: bool
) -> None:
    data, model = prepared(), build(family)
    order = np.argsort(data.examples.lengths(0))
    batch = data.examples.batch(0, np.r_[order[:3], order[-3:]] if padded else order[-4:])
    assert (batch.attention_mask_BL is not None) is padded
    without = packed(batch, multiple=8)
    assert (without.packed_T is not None) is padded
    found, learner = [], Learner(model, data.task.objectives)
    for read in (batch, without, None):
        if read is without and packs_correctly(model.config):
            learner.family.use_packing()
        if read:
            loss = learner(read)["mlm"] / batch.predictions["mlm"]
        else:
            target, labels = batch.targets["mlm"], torch.full((batch.input_ids_BL.numel(),), -100)
            labels[target.positions_N] = target.labels_N
            labels_BL = labels.view_as(batch.input_ids_BL)
            mask_BL = batch.attention_mask_BL
            loss = model(batch.input_ids_BL, attention_mask=mask_BL, labels=labels_BL).loss
        loss.backward()
        trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        found.append((loss.detach(), {name: p.grad.clone() for name, p in trained}))
        model.zero_grad()
    for ours in found[:-1]:
        torch.testing.assert_close(ours, found[-1], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("family", NAMES)
def test_operations_are_those_that_torch_counts(
    build: Callable[..., Any], prepared: Callable[..., Data], family: str
) -> None:
    data = prepared()
    learner, batch = Learner(build(family), data.task.objectives), data.examples.batch(0, np.r_[:8])
    in_place = {torch.ops.aten.addmm_: lambda _, left, right, **__: mm_flop(left, right)}
    # Attention as products: torch does not count the fused one of a CPU.
    with (
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False, custom_mapping=in_place) as counter,
    ):
        learner(batch)["mlm"].backward()
    counted = counter.get_total_flops()
    assert learner.flops(batch) == pytest.approx(counted, rel=0.001)


@pytest.mark.parametrize("family", NAMES)
def test_what_is_exported_is_what_transformers_and_we_load(
    build: Callable[..., Any], prepared: Callable[..., Data], tmp_path: Path, family: str
) -> None:
    from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification

    model, tokenizer = build(family).eval(), prepared().tokenizer
    export_model(model, tokenizer, 128, tmp_path / "model")
    ids_BL = torch.randint(5, tokenizer.vocab_size, (2, 9))
    logits = model(ids_BL).logits
    for loaded in (
        AutoModelForMaskedLM.from_pretrained(tmp_path / "model"),
        load_model(str(tmp_path / "model"), key="run").eval(),
    ):
        torch.testing.assert_close(loaded(ids_BL).logits, logits)
    labelled = load_classifier(str(tmp_path / "model"), ["a", "b", "c"]).eval()
    family_of = Family.of(labelled)
    assert family_of.heads == {LABEL}
    export_model(labelled, tokenizer, 128, tmp_path / "tuned")
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "tuned")
    first_BD = family_of.base(ids_BL).last_hidden_state[:, 0]
    torch.testing.assert_close(family_of.label_logits(first_BD), theirs(ids_BL).logits)


def test_positions_are_as_many_as_were_set(build: Callable[..., Any]) -> None:
    for family in NAMES:
        model = build(family, "model.max_position_embeddings=130")
        assert Family.of(model).positions(model.config) == 130
        assert model(torch.full((1, 130), 7)).logits.isfinite().all()


def test_roberta_begins_as_bert_does_and_modernbert_by_itself(build: Callable[..., Any]) -> None:
    local, plain = (build("roberta", f"model.initialization={how}") for how in ("local", "bert"))
    values = [m.base_model.encoder.layer[0].attention.self.value.weight for m in (local, plain)]
    torch.testing.assert_close(values[0] @ values[0].T, torch.eye(32), atol=1e-5, rtol=0)
    assert not values[0].equal(values[1])


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (
            [f"family={family}", f"task={task}"],
            rf"^task={task}: needs sentence pairs, which family={family} has no head for; "
            r"family=bert has\.$",
        )
        for family, task in (
            ("roberta", "nsp"),
            ("electra", "mlm_nsp"),
            ("modernbert", "mlm_nsp"),
            ("deberta_v2", "sop"),
        )
    ]
    + [
        (["family=distilbert", "hardware.compile=true"], "^hardware.compile=true: family=distil"),
    ],
)
def test_what_a_family_has_not_is_refused_in_one_line(
    experiment_config: Callable[..., Config], overrides: list[str], reason: str
) -> None:
    config = experiment_config(*overrides)
    task = config.task
    with pytest.raises(UserError, match=reason) as caught:
        compiled = config.hardware.compile
        check_model(
            *(config.family, config.model, task.heads, 128, CPU, task.uses_sentences, compiled),
            f"task={task.name}",
        )
    assert "\n" not in str(caught.value)


def test_a_checkpoint_brings_its_family(
    build: Callable[..., Any],
    experiment_config: Callable[..., Config],
    prepared: Callable[..., Data],
    tmp_path: Path,
) -> None:
    tokenizer, heads = prepared().tokenizer, frozenset({MASKED})
    before = build("roberta")
    export_model(before, tokenizer, 128, tmp_path)
    config = experiment_config("model=pretrained", f"model.pretrained={tmp_path}")
    after = build_model(config.family, config.model, heads, tokenizer, 128, 0)
    assert all(
        weight.equal(after.state_dict()[name]) for name, weight in before.state_dict().items()
    )
    assert type(Family.of(after)) is FAMILIES["roberta"]
    told = rf"^model\.pretrained={tmp_path}: its positions begin .* or if it has none, set token"
    with pytest.raises(UserError, match=told):
        Family.of(after).use_tokens(tokenizer.pad_id + 1, tokenizer.mask_id)
