"""Checkpoints as they are published, of any kind: trained and exported unchanged, or refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, mm_flop
from transformers import CONFIG_MAPPING, AutoModelForMaskedLM

from bertexp.config import Config
from bertexp.experiment.prepare import Data
from bertexp.families import FAMILIES
from bertexp.families.base import Family
from bertexp.families.build import build_model, check_model
from bertexp.families.checkpoint import export_model, load_model
from bertexp.families.generic import generic
from bertexp.objectives.learner import Learner
from bertexp.validation import UserError

CPU = torch.device("cpu")
MASKED = frozenset({"masked"})
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 140,
    "pad_token_id": 0,
}
PAD_IS_END = 3
# What checkpoints of a kind have that its models from scratch do not, or by other names.
PUBLISHED: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"type_vocab_size": 1, "layer_norm_eps": 1e-5},
    "xlm-roberta": {"type_vocab_size": 1, "tie_word_embeddings": False},
    "electra": {"embedding_size": 8},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24},
    "deberta-v2": {
        "relative_attention": True,
        "position_buckets": 4,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": "p2c|c2p",
        "position_biased_input": False,
        "conv_kernel_size": 3,
    },
    "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 8},
    "eurobert": {
        "num_key_value_heads": 1,
        "pad_token_id": PAD_IS_END,
        "eos_token_id": PAD_IS_END,
        "tie_word_embeddings": False,
    },
    "mpnet": {"pad_token_id": 1},
    "esm": {"position_embedding_type": "rotary", "token_dropout": True, "mask_token_id": 4},
    "albert": {"embedding_size": 8, "num_hidden_groups": 2},
}


def publish(kind: str, vocab_size: int, folder: Path, **settings: Any) -> Any:
    """Save a model of plain ``transformers`` that is not at its initial weights."""
    sizes = {} if kind == "distilbert" else SIZES
    tokens = dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"))
    known = {"vocab_size": vocab_size, **tokens, **sizes, **PUBLISHED[kind], **settings}
    dropouts = dict.fromkeys(FAMILIES[kind].dropouts(), 0.0)
    torch.manual_seed(0)
    made: Any = CONFIG_MAPPING[kind]
    model = AutoModelForMaskedLM.from_config(made(**known, **dropouts))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("kind", PUBLISHED)
def test_a_checkpoint_trains_as_transformers_trains_it(
    prepared: Callable[..., Data], tmp_path: Path, kind: str
) -> None:
    """Padding is known by the lengths: one model's padding is its end token."""
    data = prepared()
    theirs = publish(kind, data.tokenizer.vocab_size, tmp_path)
    ours = load_model(str(tmp_path), MASKED)
    order = np.argsort(data.examples.lengths(0))
    batch = data.examples.batch(0, order[[0, 1, -2, -1]])
    assert batch.attention_mask_BL is not None
    is_padding_BL = batch.attention_mask_BL == 0
    ids_BL = batch.input_ids_BL.masked_fill(is_padding_BL, theirs.config.pad_token_id)
    batch = replace(batch, input_ids_BL=ids_BL)
    target, labels = batch.targets["mlm"], torch.full((ids_BL.numel(),), -100)
    labels[target.positions_N] = target.labels_N
    expected = theirs(
        ids_BL, attention_mask=batch.attention_mask_BL, labels=labels.view_as(ids_BL)
    ).loss
    found = Learner(ours, data.task.objectives)(batch)["mlm"] / batch.predictions["mlm"]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    found.backward()
    expected.backward()
    for name, parameter in theirs.named_parameters():
        own = ours.get_parameter(name)
        assert own.requires_grad == (parameter.grad is not None), name
        if own.requires_grad:
            torch.testing.assert_close(own.grad, parameter.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["electra", "albert", "deberta-v2", "eurobert", "esm"])
def test_operations_of_a_checkpoint_are_those_that_torch_counts(
    prepared: Callable[..., Data], tmp_path: Path, kind: str
) -> None:
    data = prepared()
    publish(kind, data.tokenizer.vocab_size, tmp_path)
    learner = Learner(load_model(str(tmp_path), MASKED), data.task.objectives)
    batch = data.examples.batch(0, np.arange(8))
    in_place = {torch.ops.aten.addmm_: lambda _, left, right, **__: mm_flop(left, right)}
    with (
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False, custom_mapping=in_place) as counter,
    ):
        learner(batch)["mlm"].backward()
    assert learner.flops(batch) == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_a_discriminator_of_electra_keeps_its_encoder(tmp_path: Path) -> None:
    from transformers import ElectraConfig, ElectraForPreTraining

    saved = ElectraForPreTraining(ElectraConfig(**SIZES, embedding_size=8, vocab_size=64))
    saved.save_pretrained(tmp_path)
    discriminator, generator = load_model(str(tmp_path)), load_model(str(tmp_path), MASKED)
    assert type(discriminator) is ElectraForPreTraining
    for name, weight in saved.state_dict().items():
        assert weight.equal(discriminator.state_dict()[name])
        if name.startswith("electra."):
            assert weight.equal(generator.state_dict()[name])


def test_a_mask_that_a_model_sets_to_nothing_cannot_be_another_token(tmp_path: Path) -> None:
    publish("esm", 64, tmp_path)
    model = load_model(str(tmp_path), MASKED)
    Family.of(model).use_tokens(0, 4)
    with pytest.raises(UserError, match=rf"^model\.pretrained={tmp_path}: .* masks with 5; leave"):
        Family.of(model).use_tokens(0, 5)


@pytest.mark.parametrize("kind", PUBLISHED)
def test_a_checkpoint_comes_back_as_it_was(
    prepared: Callable[..., Data], tmp_path: Path, kind: str
) -> None:
    tokenizer = prepared().tokenizer
    theirs = publish(kind, tokenizer.vocab_size, tmp_path / "before").eval()
    for heads in (MASKED, None):
        model = load_model(str(tmp_path / "before"), heads)
        export_model(model, tokenizer, 128, tmp_path / "after")
        before, after = (
            load_file(tmp_path / name / "model.safetensors") for name in ("before", "after")
        )
        assert before.keys() == after.keys()
        assert all(weight.equal(after[name]) for name, weight in before.items())
        assert {weight.dtype for weight in after.values()} == {torch.float32}
        configs = [
            json.loads((tmp_path / name / "config.json").read_text())
            for name in ("before", "after")
        ]
        assert configs[0] == configs[1]
    ids_BL = torch.randint(5, tokenizer.vocab_size, (2, 9))
    again = AutoModelForMaskedLM.from_pretrained(tmp_path / "after").eval()
    assert again(ids_BL).logits.equal(theirs(ids_BL).logits)


def check(config: Config, length: int = 128, is_compiled: bool = False) -> None:
    """Check a run's model as a run does before its corpus is prepared."""
    task = config.task
    check_model(
        *(config.family, config.model, task.heads, length, CPU, task.uses_sentences, is_compiled),
        f"task={task.name}",
    )


@pytest.mark.parametrize(
    ("kind", "positions"), [("bert", 140), ("roberta", 139), ("mpnet", 138), ("eurobert", 140)]
)
def test_positions_behind_that_of_padding_are_not_counted(
    experiment_config: Callable[..., Config], tmp_path: Path, kind: str, positions: int
) -> None:
    publish(kind, 64, tmp_path)
    config = experiment_config("model=pretrained", f"model.pretrained={tmp_path}")
    check(config, length=positions)
    with pytest.raises(UserError, match=rf"^task\.max_length=.* only {positions} positions"):
        check(config, length=positions + 1)


SCRATCH = {
    "family.name=erobert": r"^family\.name=erobert: must be one of .* Did you mean 'eurobert'\?$",
    "family.name=bart": r"^family\.name=bart: its configuration has is_encoder_decoder=True; ",
    "family.name=gpt2": r"^family\.name=gpt2: must be one of bert, .*masked-language-model class",
    "family.name=funnel": r"^family\.name=funnel: its configuration has no num_hidden_layers, so ",
    "family.name=squeezebert": r"^family\.name=squeezebert: transformers builds none with these s",
    "family.name=mobilebert": r"^family\.name=mobilebert: the head of a MobileBertForMaskedLM is ",
    "family.name=mobilebert model.hidden_size=30 model.num_attention_heads=2": (
        r"transformers builds none with these sizes of model\.\* \(hidden_size=30, "
        r"num_attention_heads=2, .*\): Trying to create tensor with negative dimension"
    ),
    "family.name=esm task=nsp": (
        r"^task=nsp: needs sentence pairs, which family\.name=esm has no head for; "
        r"family=bert has\.$"
    ),
}


@pytest.mark.parametrize("family", ["family=modernbert", "family.name=eurobert"])
@pytest.mark.parametrize(("hidden", "heads", "size"), [(30, 2, 15), (32, 32, 1)])
def test_rotary_heads_of_odd_size_are_refused(
    experiment_config: Callable[..., Config], family: str, hidden: int, heads: int, size: int
) -> None:
    sizes = f"model.hidden_size={hidden}", f"model.num_attention_heads={heads}"
    with pytest.raises(UserError) as caught:
        check(experiment_config(family, *sizes))
    assert str(caught.value) == (
        f"{', '.join(sizes)}: gives heads of size {size}; {family} rotates pairs, so it must be "
        "even."
    )
    check(experiment_config("family.name=roberta", *sizes))


def test_a_short_name_is_taken_for_a_kind_that_trains_from_scratch() -> None:
    assert FAMILIES.nearest("xlmr") == "xlm-roberta"
    assert FAMILIES.hint("robreta", ["bert", "roberta"]).endswith("Did you mean 'roberta'?")
    assert FAMILIES.hint("xlmr", ["bert"]).endswith("Did you mean family.name=xlm-roberta?")


def test_trying_a_kind_shows_no_warning_of_transformers(
    experiment_config: Callable[..., Config],
    prepared: Callable[..., Data],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logger = logging.getLogger("transformers")
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    monkeypatch.setattr(logger, "level", logging.WARNING)
    generic.cache_clear()
    config = experiment_config("family.name=big_bird")
    check(config)
    model = build_model(config.family, config.model, MASKED, prepared().tokenizer, 64, 0)
    Family.of(model).parts(64)
    warnings = [each for each in caplog.records if each.name.startswith("transformers")]
    assert not warnings


@pytest.mark.parametrize("overrides", SCRATCH)
def test_a_kind_that_cannot_be_trained_from_scratch_is_refused_in_one_line(
    experiment_config: Callable[..., Config], overrides: str
) -> None:
    with pytest.raises(UserError, match=SCRATCH[overrides]) as caught:
        check(experiment_config(*overrides.split()))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["funnel", "perceiver", "modernvbert"])
def test_a_checkpoint_of_another_shape_is_refused_in_one_line(
    experiment_config: Callable[..., Config], tmp_path: Path, kind: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(
        UserError, match=f"is a {kind} model, whose configuration has no "
    ) as caught:
        check(experiment_config("model=pretrained", f"model.pretrained={tmp_path}"))
    assert "\n" not in str(caught.value)


def test_attention_without_fused_kernels_is_said_to_be_slow(
    experiment_config: Callable[..., Config],
    prepared: Callable[..., Data],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in ("deberta-v2", "roberta"):
        caplog.clear()
        config = experiment_config(f"family.name={name}", "model.hidden_size=16")
        with caplog.at_level(logging.INFO, logger="bertexp"):
            build_model(config.family, config.model, MASKED, prepared().tokenizer, 64, 0)
        assert ("without fused kernels" in caplog.text) == (name == "deberta-v2")


def test_a_kind_that_is_not_compiled_says_so(experiment_config: Callable[..., Config]) -> None:
    with pytest.raises(
        UserError, match=r"^hardware\.compile=true: family=eurobert cannot be compiled"
    ):
        check(experiment_config("family.name=eurobert"), is_compiled=True)


@pytest.mark.parametrize("module", ["modeling_eurobert", "own"])
def test_code_that_comes_with_a_checkpoint_is_never_run(
    experiment_config: Callable[..., Config], tmp_path: Path, module: str
) -> None:
    """What was published with code of its own may be in transformers by now."""
    publish("eurobert", 64, tmp_path)
    file = tmp_path / "config.json"
    code = {"AutoModelForMaskedLM": f"org/name--{module}.EuroBertForMaskedLM"}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"auto_map": code}))
    config = experiment_config("model=pretrained", f"model.pretrained={tmp_path}")
    if module == "own":
        with pytest.raises(UserError, match=r"its configuration has auto_map=.*own\.EuroBert"):
            check(config)
    else:
        check(config)
        load_model(str(tmp_path), MASKED)


def test_a_part_that_is_missing_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    model = publish("eurobert", 64, tmp_path / "whole")
    model.save_pretrained(folder, max_shard_size="8KB")
    first, *_ = sorted(folder.glob("*.safetensors"))
    loaded = load_model(str(folder), MASKED).state_dict()
    assert all(weight.equal(loaded[name]) for name, weight in model.state_dict().items())
    first.unlink()
    with pytest.raises(UserError) as caught:
        load_model(str(folder), MASKED)
    assert str(caught.value) == f"model.pretrained={folder}: {first.name} is missing."


@pytest.mark.parametrize(
    ("path", "start"),
    [("./nope", r"no such folder\.$"), ("ck/nope", "no such folder; the Hugging")],
)
def test_a_folder_that_does_not_exist_is_no_matter_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, start: str
) -> None:
    (tmp_path / "ck").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"^model\.pretrained={path}: {start}"):
        load_model(path, MASKED)
