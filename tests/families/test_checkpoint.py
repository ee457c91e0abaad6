"""Checkpoints of every kind: trained and exported as bertexp promises, or refused."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, BertForPreTraining, BertModel

from bertexp.config import Config
from bertexp.data.tokens.roles import to_transformers
from bertexp.experiment.prepare import Data, prepare_tokenizer
from bertexp.experiment.saved import Saved
from bertexp.families.architecture import check_pairs
from bertexp.families.build import build_model
from bertexp.families.checkpoint import export_model, load_classifier, load_model
from bertexp.objectives.learner import Learner
from bertexp.validation import UserError

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
}


def described(vocab_size: int = 256, **settings: Any) -> BertConfig:
    return BertConfig(**{"vocab_size": vocab_size, **SIZES, **settings})


def rewrite(folder: Path, **fields: Any) -> None:
    """Change fields of a saved model's configuration."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


ODD = {
    "relu": {"hidden_act": "relu"},
    "gelu_new": {"hidden_act": "gelu_new"},
    "silu": {"hidden_act": "silu"},
    "eps": {"layer_norm_eps": 0.1},
    "untied": {"tie_word_embeddings": False},
    "three segments": {"type_vocab_size": 3},
    "padded": {"vocab_size": 320},
    "no padding index": {"pad_token_id": None},
    "one head": {"num_attention_heads": 1},
}


@pytest.mark.parametrize("name", ODD)
def test_the_loss_of_an_odd_checkpoint_is_that_of_transformers(
    prepared: Callable[..., Data], tmp_path: Path, name: str
) -> None:
    data = prepared("task=mlm_nsp", "task.max_length=64")
    torch.manual_seed(0)
    theirs = BertForPreTraining(described(**ODD[name])).eval()
    with torch.no_grad():
        # What is 0 or 1 at first would hide where it is left out.
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path)
    # These say how a model is computed and what it returns, and change nothing.
    rewrite(tmp_path, chunk_size_feed_forward=5, return_dict=False, output_attentions=True,
        output_hidden_states=True, attn_implementation="flash_attention_2")  # fmt: skip
    batch = data.examples.batch(0, np.argsort(data.examples.lengths(0))[[0, 1, -2, -1]])
    assert batch.attention_mask_BL is not None
    model = load_model(str(tmp_path), frozenset({"masked", "pair"})).eval()
    sums = Learner(model, data.task.objectives)(batch)
    ours = sum(sums[name].item() / count for name, count in batch.predictions.items())
    labels = torch.full((batch.input_ids_BL.numel(),), -100)
    labels[batch.targets["mlm"].positions_N] = batch.targets["mlm"].labels_N
    expected = theirs(
        input_ids=batch.input_ids_BL,
        attention_mask=batch.attention_mask_BL,
        token_type_ids=batch.token_type_ids_BL,
        labels=labels.view_as(batch.input_ids_BL),
        next_sentence_label=batch.targets["nsp"].labels_N,
    ).loss
    assert ours == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_trained_and_exported_in_float32(
    prepared: Callable[..., Data], tmp_path: Path, dtype: torch.dtype
) -> None:
    data = prepared("task.max_length=64")
    BertForMaskedLM(described(data.tokenizer.vocab_size)).to(dtype).save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert {weight.dtype for weight in saved.values()} == {dtype}
    model = load_model(str(tmp_path), frozenset({"masked"}))
    classifier = load_classifier(str(tmp_path), ["a", "b"])
    for each in (model, classifier, Saved(str(tmp_path), None).load_model()):
        assert {p.dtype for p in each.parameters()} == {torch.float32}
    # A step this small is lost in sixteen bits.
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0)
    Learner(model, data.task.objectives)(data.examples.batch(0, np.arange(8)))["mlm"].backward()
    optimizer.step()
    export_model(model, data.tokenizer, 64, tmp_path / "export")
    after = load_file(tmp_path / "export" / "model.safetensors")
    name = "bert.encoder.layer.0.output.dense.weight"
    assert {weight.dtype for weight in after.values()} == {torch.float32}
    assert (after[name] != saved[name].float()).float().mean() > 0.99
    assert json.loads((tmp_path / "export" / "config.json").read_text())["dtype"] == "float32"


REFUSED = {
    "is_decoder": True,
    "add_cross_attention": True,
    "is_encoder_decoder": True,
    "position_embedding_type": "relative_key",
    "pruned_heads": {"0": [1]},
    "per_layer_config": {"0": {"intermediate_size": 8}},
    "quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True},
    "auto_map": {"AutoModelForMaskedLM": "own.OwnBert"},
    "model_type": None,
    "hidden_act": "no such function",
    "architectures": ["OwnBertForMaskedLM"],
}


@pytest.mark.parametrize("field", REFUSED)
def test_what_is_no_plain_bert_is_refused_in_one_line(tmp_path: Path, field: str) -> None:
    BertForMaskedLM(described()).save_pretrained(tmp_path)
    rewrite(tmp_path, **{field: REFUSED[field]})
    with pytest.raises(UserError) as caught:
        Saved(str(tmp_path), None).load_model()
    told = str(caught.value)
    assert told.startswith(f"run={tmp_path}: ")
    assert "\n" not in told
    known = REFUSED[field][0] if field == "architectures" else field
    assert (known if field != "hidden_act" else REFUSED[field]) in told


def test_fields_of_todays_plain_checkpoints_are_no_reason_to_refuse(tmp_path: Path) -> None:
    """What the Hub's own files have."""
    BertForMaskedLM(described()).save_pretrained(tmp_path)
    rewrite(tmp_path, position_embedding_type="absolute", gradient_checkpointing=False,
        torch_dtype="float16", dtype="auto", pruned_heads={}, is_decoder=False, use_cache=True,
        directionality="bidi", pooler_type="first_token_transform")  # fmt: skip
    assert load_model(str(tmp_path)).dtype == torch.float32


def test_the_bias_of_an_untied_head_is_found_where_transformers_4_saved_it(tmp_path: Path) -> None:
    before = BertForMaskedLM(described(tie_word_embeddings=False))
    torch.nn.init.normal_(before.cls.predictions.decoder.bias)
    before.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["cls.predictions.bias"] = weights.pop("cls.predictions.decoder.bias")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    after: Any = load_model(str(tmp_path))
    assert after.cls.predictions.decoder.bias.equal(before.cls.predictions.decoder.bias)
    trained = [name for name, p in after.named_parameters() if p.requires_grad]
    loss = after(torch.arange(8)[None], labels=torch.arange(8)[None]).loss
    loss.backward()
    assert all(after.get_parameter(name).grad is not None for name in trained)


def test_weights_that_are_not_there_are_not_made_up(tmp_path: Path) -> None:
    model = BertForMaskedLM(described())
    model.save_pretrained(tmp_path / "deeper")
    rewrite(tmp_path / "deeper", num_hidden_layers=3)
    model.save_pretrained(tmp_path / "headless")
    rewrite(tmp_path / "headless", architectures=["BertForPreTraining"])
    BertModel(described(), add_pooling_layer=False).save_pretrained(tmp_path / "unpooled")
    for name, lost in (("deeper", "encoder.layer.2"), ("headless", "cls.seq_relationship")):
        with pytest.raises(UserError, match=f"weights of a .* are not in it, .*{lost}"):
            load_model(str(tmp_path / name), key="run")
    with pytest.raises(UserError, match=r"16 of the weights .*encoder\.layer\.2"):
        load_model(str(tmp_path / "deeper"), frozenset({"masked"}))
    load_model(str(tmp_path / "headless"), frozenset({"masked", "pair"}))
    load_model(str(tmp_path / "unpooled"))


def test_weights_in_several_files_load_and_pickled_ones_say_how_to_convert_them(
    tmp_path: Path,
) -> None:
    model = BertForMaskedLM(described())
    model.save_pretrained(tmp_path / "parts", max_shard_size="20KB")
    assert len([*(tmp_path / "parts").glob("*.safetensors")]) > 1
    loaded = load_model(str(tmp_path / "parts")).state_dict()
    assert all(weight.equal(loaded[name]) for name, weight in model.state_dict().items())
    pickled = tmp_path / "pickled"
    model.save_pretrained(pickled)
    (pickled / "model.safetensors").unlink()
    torch.save(model.state_dict(), pickled / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickled") as caught:
        load_model(str(pickled))
    exec(str(caught.value).split('python -c "')[1].rstrip('"'), {})
    assert load_model(str(pickled)).state_dict().keys() == loaded.keys()


@pytest.fixture
def fit(
    experiment_config: Callable[..., Config], prepared: Callable[..., Data], tmp_path: Path
) -> Callable[..., Any]:
    """Return a function that builds from a checkpoint of so many rows, as a run does."""
    from tokenizers import Tokenizer as Backend

    from bertexp.data.tokens.tokenizer import Tokenizer

    def build(rows: int, added: int = 0, *overrides: str, own: bool = True) -> Any:
        backend = Backend.from_str(prepared().tokenizer.backend.to_str())
        backend.add_tokens([f"<{n}>" for n in range(added)])
        tokenizer = Tokenizer(backend)
        model = BertForMaskedLM(described(tokenizer.vocab_size - added + rows))
        export_model(model, tokenizer, 64, tmp_path / "own")
        to_transformers(tokenizer, 64).save_pretrained(tmp_path / "other")
        chosen = () if own else (f"tokenizer.path={tmp_path / 'other'}",)
        config = experiment_config(
            "model=pretrained", f"model.pretrained={tmp_path / 'own'}", *chosen, *overrides
        )
        known = prepare_tokenizer(config)
        return (
            model,
            known,
            build_model(config.family, config.model, frozenset({"masked"}), known, 64, 0),
        )

    return build


@pytest.mark.parametrize("own", [True, False])
def test_rows_beyond_the_vocabulary_stay(fit: Callable[..., Any], own: bool) -> None:
    before, tokenizer, after = fit(7, own=own)
    assert len(tokenizer.tokens) == before.config.vocab_size - 7 == len(tokenizer.is_special_V)
    assert after.config.vocab_size == before.config.vocab_size


def test_a_tokenizer_with_more_tokens_is_refused_or_given_rows(fit: Callable[..., Any]) -> None:
    with pytest.raises(
        UserError, match=r"^model\.pretrained=.* tokens; training with model\.resize=true adds"
    ):
        fit(0, 3)
    before, tokenizer, after = fit(0, 3, "model.resize=true")
    old, new = before.config.vocab_size, after.config.vocab_size
    assert new == tokenizer.vocab_size == old + 3
    weights = [model.get_input_embeddings().weight for model in (before, after)]
    assert weights[0].equal(weights[1][:old])
    assert after.cls.predictions.decoder.weight is weights[1]
    assert after.cls.predictions.bias.shape == (new,)


def test_a_tokenizer_that_cannot_be_the_checkpoints_is_refused(fit: Callable[..., Any]) -> None:
    with pytest.raises(
        UserError, match=r"only \d+ tokens; leave tokenizer out to take its own, or"
    ):
        fit(2000, own=False)
    fit(2000)


def test_a_checkpoint_brings_its_tokenizer_unless_another_is_chosen(
    experiment_config: Callable[..., Config],
) -> None:
    home = str(Path.home() / "x")
    for chosen in ([], ["model=pretrained"], ["tokenizer=pretrained"]):
        config = experiment_config(*chosen, "model.pretrained='~/x'")
        assert (config.tokenizer.name, config.tokenizer.path) == ("pretrained", home)
    assert experiment_config().tokenizer.name == "wordpiece"
    for model in ([], ["model=pretrained"]):
        config = experiment_config(*model, "model.pretrained=x", "tokenizer=bpe")
        assert (config.tokenizer.name, config.tokenizer.path) == ("bpe", None)


@pytest.mark.slow
def test_a_vocabulary_to_be_trained_needs_as_many_rows(
    experiment_config: Callable[..., Config],
    caplog: pytest.LogCaptureFixture,
    prepared: Callable[..., Data],
    tmp_path: Path,
) -> None:
    export_model(BertForMaskedLM(described(1500)), prepared().tokenizer, 64, tmp_path)
    chosen = ("tokenizer=bpe", f"model.pretrained={tmp_path}")
    for size, told in (
        (1501, "has 1500 rows of embeddings, tokenizer=bpe .*vocab_size=1501 has 1501 tokens"),
        (300, "has 1500 rows of embeddings, tokenizer=bpe .* only 300 tokens; leave tokenizer out"),
    ):
        with pytest.raises(UserError, match=told):
            prepare_tokenizer(experiment_config(*chosen, f"tokenizer.vocab_size={size}"))
    assert prepare_tokenizer(experiment_config(*chosen, "tokenizer.vocab_size=1500")).mask_id == 4
    assert "its embeddings are of other tokens than those that tokenizer=bpe trains" in caplog.text


def test_the_padding_token_is_the_tokenizers(
    experiment_config: Callable[..., Config], prepared: Callable[..., Data], tmp_path: Path
) -> None:
    """A word whose id the configuration takes for padding would keep its embedding for ever."""
    tokenizer = prepared().tokenizer
    model = BertForMaskedLM(described(tokenizer.vocab_size, pad_token_id=9))
    export_model(model, tokenizer, 64, tmp_path)
    config = experiment_config("model=pretrained", f"model.pretrained={tmp_path}")
    built: Any = build_model(config.family, config.model, frozenset({"masked"}), tokenizer, 64, 0)
    built.bert(torch.tensor([[9, 10]])).last_hidden_state.pow(2).sum().backward()
    assert built.get_input_embeddings().weight.grad[9].any()
    assert built.config.pad_token_id == tokenizer.pad_id


def test_one_kind_of_segment_reads_no_pairs() -> None:
    with pytest.raises(UserError, match=r"^task: .*type_vocab_size=1"):
        check_pairs(described(type_vocab_size=1), "task")
    check_pairs(described(), "task")


def mark(model: Any, step: int) -> None:
    with torch.no_grad():
        model.cls.predictions.bias.fill_(step)


def kept(folder: Path) -> dict[str, float]:
    """Return which step's weights lie in each model's folder below."""
    found = sorted(path.parent for path in folder.rglob("model.safetensors"))
    return {
        str(path.relative_to(folder)): BertForMaskedLM.from_pretrained(
            path
        ).cls.predictions.bias[0].item()
        for path in found
    }  # fmt: skip


def test_a_failed_export_leaves_the_old_model_whole(
    prepared: Callable[..., Data], tmp_path: Path
) -> None:
    tokenizer = prepared().tokenizer
    model = BertForMaskedLM(described(tokenizer.vocab_size))
    mark(model, 1)
    export_model(model, tokenizer, 128, tmp_path / "model")
    mark(model, 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, hard))  # as good as a full disk
    try:
        with pytest.raises(Exception, match="large"):
            export_model(model, tokenizer, 128, tmp_path / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert kept(tmp_path) == {"model": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_export_loads_with_its_tokenizer(prepared: Callable[..., Data], tmp_path: Path) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    data = prepared()
    model = BertForMaskedLM(described(data.tokenizer.vocab_size, max_position_embeddings=128))
    export_model(model.eval(), data.tokenizer, 100, tmp_path / "model")
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    text = " ".join(next(data.corpus.documents("train")).paragraphs)
    ids = tokenizer(text, return_tensors="pt", truncation=True)["input_ids"]
    assert ids.shape == (1, 100)
    expected = [data.tokenizer.opening_id, *data.tokenizer.encode([text])[0][:98]]
    assert ids[0, :99].tolist() == expected
    torch.testing.assert_close(loaded(ids).logits, model(ids).logits)
