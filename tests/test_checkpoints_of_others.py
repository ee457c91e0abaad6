"""A checkpoint as people have them, through every command: half precision, padded, tokens added."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from folders import summary
from omegaconf import OmegaConf
from safetensors.torch import load_file
from transformers import BertConfig, BertForPreTraining, BertTokenizer

from bertexp.data.tokens.wordpiece import SPECIAL_TOKENS

WORDS = ["the", "old", "river", "runs", "into", "sea", "silver", "stone", ".", "s", "##s"]
SETTINGS = (
    *("+size=smoke", "tracker=none", "task.max_length=32", "trainer.max_steps=3"),
    *("dataset=text", "dataset.files=[text.txt]", "dataset.validation_fraction=0.3"),
    *("evaluation.probes=[]", "hardware.threads=1", "trainer.batch_size=8"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus and a checkpoint."""
    folder = tmp_path_factory.mktemp("others")
    sentences = ["The old <ent> runs into the sea.", "A silver lantern, the stones of <ent>."]
    text = "\n\n".join(f"{sentences[n % 2]} {sentences[n % 3 % 2]}" for n in range(60))
    (folder / "text.txt").write_text(text)
    vocabulary = {token: index for index, token in enumerate([*SPECIAL_TOKENS, *WORDS])}
    tokenizer = BertTokenizer(vocab=vocabulary)
    tokenizer.add_tokens(["<ent>", "silver lantern"])
    torch.manual_seed(0)
    config = BertConfig(
        # Filled up to a multiple of eight.
        vocab_size=24,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    model = BertForPreTraining(config)
    with torch.no_grad():
        # Of the rows that no token has, it thinks most.
        model.cls.predictions.bias[len(tokenizer) :] = 9.0
    model.bfloat16().save_pretrained(folder / "given")
    tokenizer.save_pretrained(folder / "given")
    return folder


def test_a_checkpoint_is_trained_evaluated_and_queried_as_it_is(
    folder: Path, command: Callable[..., Any]
) -> None:
    given = ("model=pretrained", "model.pretrained='~/given'", "hydra.run.dir=run")
    done = command(*SETTINGS, *given, folder=folder, HOME=str(folder))
    assert done.code == 0, done.lines
    plan = " ".join(" ".join(done.lines).split())
    assert "vocabulary of 18 (pretrained)" in plan
    assert "dropout 0.1" in plan, "the checkpoint's own"
    assert "learning rate 5e-05, for a checkpoint (linear)" in plan
    assert OmegaConf.load(folder / "run" / ".hydra" / "config.yaml").optimizer.lr == 5e-5
    weights = load_file(folder / "run" / "model" / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert weights["bert.embeddings.word_embeddings.weight"].shape == (24, 32)

    again = command("run", module="bertexp.evaluate", folder=folder)
    assert again.code == 0, again.lines
    ended = summary(folder / "run")
    evaluated = json.loads((folder / "run" / "evaluations" / "model.json").read_text())
    assert evaluated["metrics"] == ended["metrics"]
    assert evaluated["fingerprints"] == ended["fingerprints"]

    for name in ("run", "~/given"):
        told = command(name, "The <ent> [MASK].", "--json", module="bertexp.predict",
            folder=folder, HOME=str(folder))  # fmt: skip
        assert told.code == 0, told.lines
        (mask,) = json.loads(told.output)["masks"]
        assert mask["position"] == 3, "<ent> is one token"
        known = {*WORDS, *SPECIAL_TOKENS, "<ent>", "silver lantern"}
        assert {each["token"] for each in mask["likeliest"]} <= known

    seen = command("run=run", "what=[tokens,embeddings]", "text=the old <ent>",
        module="bertexp.inspect", folder=folder)  # fmt: skip
    assert seen.code == 0, seen.lines
    assert "<ent>" in seen.output

    rows = "text,label\n" + "the old <ent>,a\nthe sea,b\n" * 8
    (folder / "train.csv").write_text(rows)
    tuned = command("run", "finetune.train=train.csv", "finetune.validation=train.csv",
        "trainer.max_steps=2", "tracker=none", "hydra.run.dir=tuned",
        module="bertexp.finetune", folder=folder)  # fmt: skip
    assert tuned.code == 0, tuned.lines
    plan = " ".join(" ".join(tuned.lines).split())
    assert "learning rate 0.0003, for a hidden size of 32 (linear)" in plan
    assert OmegaConf.load(folder / "tuned" / ".hydra" / "config.yaml").optimizer.lr == 3e-4
    saved = (folder / "run" / "model" / "tokenizer.json").read_bytes()
    assert (folder / "tuned" / "model" / "tokenizer.json").read_bytes() == saved


def test_a_wrong_pair_is_refused_before_the_corpus_is_read(
    folder: Path, command: Callable[..., Any]
) -> None:
    (folder / "small.txt").write_text("\n".join([*SPECIAL_TOKENS, *WORDS, *"abcdefghijklmnop"]))
    given = (
        "model=pretrained",
        "model.pretrained=given",
        "dataset=text",
        "dataset.files=[none]",
        "task.max_length=32",
    )
    for chosen, told in (
        (["tokenizer.path=small.txt"], "error: model.pretrained=given: has 24 rows of embeddings"),
        (["tokenizer=wordpiece"], "error: model.pretrained=given: has 24 rows of embeddings"),
    ):
        done = command(*given, *chosen, folder=folder)
        assert done.code == 1
        assert done.lines[-1].startswith(told), done.lines
