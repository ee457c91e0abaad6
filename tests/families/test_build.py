"""Model sizes as published, and checkpoints to go on from."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bertexp.config import Config
from bertexp.data.tokens.saved import open_tokenizer
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.data.tokens.wordpiece import SPECIAL_TOKENS
from bertexp.experiment.prepare import Data
from bertexp.families.build import build_model
from bertexp.objectives.learner import count_parameters
from bertexp.validation import UserError

# Layers, width, and parameters in millions: google-research/bert, README (March 11th, 2020; the
# parameters from Turc et al. 2019, table 1). Large: 24 layers of 1024, "340M" in Devlin et al.
# 2019, whose heads and pooling layer make it 336.2.
PUBLISHED = {
    "tiny": (2, 128, 4.4),
    "mini": (4, 256, 11.3),
    "small": (4, 512, 29.1),
    "medium": (8, 512, 41.7),
    "base": (12, 768, 110.1),
    "large": (24, 1024, 336.2),
}


@pytest.fixture(scope="module")
def bert_sized_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A vocabulary as large as BERT's."""
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    words = [f"w{number}" for number in range(30522 - len(SPECIAL_TOKENS))]
    path.write_text("\n".join([*SPECIAL_TOKENS, *words]))
    return open_tokenizer(str(path), "tokenizer.path")


@pytest.mark.parametrize("size", PUBLISHED)
def test_sizes_are_those_published_and_those_of_transformers(
    experiment_config: Callable[..., Config], bert_sized_tokenizer: Tokenizer, size: str
) -> None:
    from transformers import BertConfig, BertForPreTraining

    layers, width, millions = PUBLISHED[size]
    config = experiment_config(f"model={size}", "model.initialization=bert")
    # Nothing is computed: the meta device knows shapes only.
    with torch.device("meta"):
        ours = build_model(
            config.family, config.model, frozenset({"masked", "pair"}), bert_sized_tokenizer, 512, 0
        )
        theirs = BertForPreTraining(
            BertConfig(
                num_hidden_layers=layers,
                hidden_size=width,
                num_attention_heads=width // 64,
                intermediate_size=4 * width,
            )
        )
    assert [(n, p.shape) for n, p in ours.named_parameters()] == [
        (n, p.shape) for n, p in theirs.named_parameters()
    ]
    assert ours.config.num_attention_heads == width // 64
    assert round(count_parameters(ours) / 1e6, 1) == millions


def test_base_without_a_pooling_layer_is_as_large_as_known(
    experiment_config: Callable[..., Config], bert_sized_tokenizer: Tokenizer
) -> None:
    """The number is in the README beside the real data."""
    config = experiment_config("model=base", "model.initialization=bert")
    with torch.device("meta"):
        model = build_model(
            config.family, config.model, frozenset({"masked"}), bert_sized_tokenizer, 512, 0
        )
    assert count_parameters(model.bert) == 108_891_648


@pytest.mark.parametrize("family", ["bert", "roberta", "electra"])
def test_the_output_begins_at_the_frequencies_of_the_tokens(
    experiment_config: Callable[..., Config], prepared: Callable[..., Data], family: str
) -> None:
    data = prepared()
    counts_V = data.tokens["train"].counts(data.tokenizer.vocab_size)

    def bias(how: str) -> torch.Tensor:
        config = experiment_config(f"model.initialization={how}", f"family={family}")
        given = (config.family, config.model, frozenset({"masked"}), data.tokenizer, 128, 0)
        return build_model(*given, counts_V).get_output_embeddings().bias.detach()

    assert not bias("bert").any()
    found_V = bias("local").softmax(0).numpy() * counts_V.sum()
    assert found_V[counts_V > 50] == pytest.approx(counts_V[counts_V > 50], rel=0.03)


@pytest.mark.slow
def test_the_seed_decides_the_weights(small_model: Callable[..., Any]) -> None:
    first, again, other = (small_model("BertForMaskedLM", seed=seed) for seed in (1, 1, 2))
    name = "bert.embeddings.word_embeddings.weight"
    weights = [model.state_dict()[name] for model in (first, again, other)]
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])
    assert first.training


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(heads=st.integers(1, 6), width=st.integers(1, 12), layers=st.integers(1, 2))
def test_any_size_that_is_allowed_can_be_built(
    small_model: Callable[..., Any], heads: int, width: int, layers: int
) -> None:
    model = small_model(
        frozenset({"masked"}),
        *(f"model.hidden_size={heads * width}", f"model.num_attention_heads={heads}"),
        *(f"model.num_hidden_layers={layers}", "model.intermediate_size=3", "model.dropout=0.25"),
    )
    logits = model(torch.arange(40)[None]).logits
    assert logits.shape == (1, 40, model.config.vocab_size)
    assert torch.isfinite(logits).all()
    assert len(model.bert.encoder.layer) == layers
    assert model.config.num_attention_heads == heads
    assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} == {
        0.25
    }


@pytest.fixture
def resume(
    experiment_config: Callable[..., Config], prepared: Callable[..., Data]
) -> Callable[..., Any]:
    """Return a function that loads a checkpoint as ``model=pretrained`` does."""

    def load(folder: Path, heads: frozenset[str], max_length: int = 128) -> Any:
        config = experiment_config("model=pretrained", f"model.pretrained={folder}")
        return build_model(config.family, config.model, heads, prepared().tokenizer, max_length, 0)

    return load


def test_a_checkpoint_is_gone_on_from(
    small_model: Callable[..., Any], resume: Callable[..., Any], tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    before = small_model("BertForMaskedLM", seed=3)
    before.save_pretrained(tmp_path)
    after = resume(tmp_path, frozenset({"masked"}))
    assert after.training
    assert before.state_dict().keys() == after.state_dict().keys()
    for name, weight in before.state_dict().items():
        assert weight.equal(after.state_dict()[name]), name
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="bertexp"):
        other = resume(tmp_path, frozenset({"pair"}))
    for name, weight in before.bert.state_dict().items():
        assert weight.equal(other.bert.state_dict()[name]), name
    new, unused = (r.getMessage() for r in caplog.records if r.name.startswith("bertexp"))
    assert new.startswith(f"New weights, not in {tmp_path}: ")
    assert "cls.seq_relationship.weight" in new
    assert "bert.pooler.dense.weight" in new
    assert "cls.predictions" in unused


def test_what_is_no_bert_in_safetensors_is_refused_in_one_line(
    small_model: Callable[..., Any], resume: Callable[..., Any], tmp_path: Path
) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = small_model("BertForMaskedLM", "model.max_position_embeddings=128")
    decoder = GPT2LMHeadModel(GPT2Config(vocab_size=99, n_embd=16, n_layer=1, n_head=2))
    decoder.save_pretrained(tmp_path / "decoder")
    model.save_pretrained(tmp_path / "torn")
    weights = tmp_path / "torn" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    (tmp_path / "empty").mkdir()
    says = {
        "decoder": "is a gpt2 model; the families are bert",
        "torn": "torn",
        "empty": "empty",
    }
    for name, reason in says.items():
        with pytest.raises(UserError, match=reason) as caught:
            resume(tmp_path / name, frozenset({"masked"}))
        assert str(caught.value).startswith(f"model.pretrained={tmp_path / name}: ")
        assert "\n" not in str(caught.value)
    model.save_pretrained(tmp_path / "short")
    with pytest.raises(UserError, match=r"^task\.max_length=129: .* only 128 positions"):
        resume(tmp_path / "short", frozenset({"masked"}), max_length=129)
