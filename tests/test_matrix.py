"""Every family through all commands, and trained with two kinds of tokenizer."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from folders import summary
from rich.cells import cell_len
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    pipeline,
)

import bertexp
from bertexp.families import FAMILIES

# By each family the tokenizer that it is known for. A new one needs a line here.
USUAL = {
    **{"bert": "wordpiece", "deberta-v2": "unigram", "distilbert": "wordpiece"},
    **{"electra": "wordpiece", "modernbert": "bpe", "roberta": "pretrained"},
    # Without a class of their own.
    **{"eurobert": "bpe", "esm": "pretrained"},
}
# On the command line; each comes with another way of masking.
TOKENIZERS = {
    "wordpiece": ("tokenizer.vocab_size=300", "masking=decay"),
    "bpe": ("tokenizer=bpe", "tokenizer.vocab_size=320", "masking=span"),
    "unigram": ("tokenizer=unigram", "tokenizer.vocab_size=200", "masking=whole_word"),
    "pretrained": ("tokenizer=pretrained", "tokenizer.path=given", "masking=frequency"),
}
# By each family another one; each of them has two families or more.
OTHER = {
    **{"bert": "bpe", "deberta-v2": "wordpiece", "distilbert": "unigram"},
    **{"electra": "bpe", "modernbert": "wordpiece", "roberta": "unigram"},
}
SMALL = (
    *("dataset=text", "dataset.files=[corpus.txt]", "dataset.validation_fraction=0.2"),
    *("model.hidden_size=32", "model.intermediate_size=48", "task.max_length=48"),
    *("trainer.max_steps=20", "trainer.batch_size=8", "trainer.save_every=10", "optimizer.lr=0.01"),
    *("evaluation.max_examples=16", "evaluation.mask_probs=[0.15]", "evaluation.probes=[length]"),
    *("evaluation.pseudo_perplexity=2", "tracker=none", "hardware=cpu", "hardware.precision=fp32"),
)
SENTENCES = (
    "The old man walks under the green river near a café.",
    "Über die straße läuft unbelievable silver light 🙂 today!",
    "나는 오늘 학교에 갔다 and 바다를 본다.",
    "我们今天去学校, the people sleep.",
)
# These begin with the frequencies of the tokens, which is all that is learnt in so few steps.
INFORMED = ("bert", "electra", "roberta")
TEXT = "The old man 🙂 나는 학교에 [MASK] 学校."


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus, labelled pairs and a tokenizer like RoBERTa's."""
    folder = tmp_path_factory.mktemp("matrix")
    lines = [" ".join(SENTENCES[(n + k * n) % 4] for k in range(3)) for n in range(240)]
    documents = ["\n".join(f"{n}. {line}" for line in lines[n : n + 3]) for n in range(0, 240, 3)]
    (folder / "corpus.txt").write_text("\n\n".join(documents), encoding="utf-8")
    rows = [f'"{SENTENCES[n % 4]}","{SENTENCES[n % 3]}",{"ab"[n % 4 == n % 3]}' for n in range(24)]
    (folder / "pairs.csv").write_text("\n".join(["text,text_b,label", *rows]), encoding="utf-8")
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(lines, trainer)
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    # It takes the space before it.
    mask = AddedToken("<mask>", lstrip=True, special=True)
    names = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": mask}
    special = {f"{role}_token": name for role, name in names.items()}
    PreTrainedTokenizerFast(tokenizer_object=made, **special).save_pretrained(folder / "given")
    return folder


@pytest.fixture(scope="module")
def trained(work: Path, command: Callable[..., Any]) -> Callable[[str, str], Path]:
    """Return a function that trains a family with a tokenizer; returns the run's folder."""

    @functools.cache
    def train(family: str, tokenizer: str) -> Path:
        run = f"{family}-{tokenizer}"
        chosen = (f"family.name={family}", *TOKENIZERS[tokenizer], f"hydra.run.dir={run}")
        begun = ["model.initialization=bert"] if family in INFORMED else []
        done = command(*SMALL, *chosen, *begun, folder=work)
        assert done.code == 0, done.lines
        assert f"tiny {family}, from scratch" in done.output
        return work / run

    return train


@pytest.fixture(scope="module")
def use(work: Path, command: Callable[..., Any]) -> Callable[..., str]:
    """Return a function that runs a command that must succeed; returns what it prints."""

    def used(module: str, *arguments: str) -> str:
        done = command(*arguments, module=f"bertexp{module}", folder=work)
        assert done.code == 0, done.lines
        return str(done.output)

    return used


def fits(printed: str) -> None:
    """Tables fit in 80 columns; a path may be longer."""
    lines = [line.rstrip() for line in printed.splitlines()]
    assert not [line for line in lines if cell_len(line) > 80 and not Path(line).exists()]


def learns(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["eval/loss"] for line in lines if "eval/loss" in line]
    assert losses[-1] < losses[0] - 0.1
    assert summary(run)["status"] == "finished"


def fills_as_transformers(run: Path) -> None:
    """Masks are filled as by the pipeline that loads the exported folder."""
    (mask,) = bertexp.load(run).fill(TEXT).masks
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    text = TEXT.replace("[MASK]", tokenizer.mask_token)
    inputs = tokenizer(text, return_tensors="pt")
    place = inputs.input_ids[0].tolist().index(tokenizer.mask_token_id)
    assert mask.position == place
    theirs = pipeline("fill-mask", model=str(run / "model"), top_k=5)(text)
    found = [probability for _, probability in mask.likeliest]
    assert found == pytest.approx([each["score"] for each in theirs], abs=1e-5)
    model = AutoModelForMaskedLM.from_pretrained(run / "model")
    with torch.no_grad():
        chances_V = model(**inputs).logits[0, place].softmax(-1)
    assert found == pytest.approx(chances_V.topk(5).values.tolist(), abs=1e-5)


def test_every_family_is_here() -> None:
    assert USUAL.keys() >= OTHER.keys() == {*FAMILIES.names()}


@pytest.mark.parametrize("family", OTHER)
def test_a_family_trains_with_another_tokenizer(
    trained: Callable[[str, str], Path], family: str
) -> None:
    run = trained(family, OTHER[family])
    learns(run)
    fills_as_transformers(run)


@pytest.mark.parametrize("family", USUAL)
def test_a_family_goes_through_all_commands(
    trained: Callable[[str, str], Path], use: Callable[..., str], family: str
) -> None:
    run = trained(family, USUAL[family])
    learns(run)
    fills_as_transformers(run)
    scored = use(".predict", run.name, TEXT.replace("[MASK] ", ""))
    fits(scored)
    assert "pseudo-perplexity" in scored

    use(".evaluate", run.name, "save=again")
    again = json.loads((run / "evaluations" / "again.json").read_text())
    ended = summary(run)
    assert again["metrics"] == ended["metrics"]
    assert again["fingerprints"] == ended["fingerprints"]

    topics = "what=architecture,tokens,masking,hidden,attention"
    seen = use(".inspect", f"run={run.name}", topics, f"text={TEXT}")
    fits(seen)
    for title in ("masked tokens' head", "attention mask", "hidden states", "entropy"):
        assert title in seen

    tuned = f"{run.name}-tuned"
    pairs = ("finetune.train=pairs.csv", "finetune.validation=pairs.csv", "finetune.text_b=text_b")
    use(".finetune", run.name, *pairs, "trainer.max_steps=3", "tracker=none", "hardware=cpu",
        f"hydra.run.dir={tuned}")  # fmt: skip
    folder = run.parent / tuned / "model"
    judged = pipeline("text-classification", model=str(folder))({"text": "a", "text_pair": "b"})
    assert judged["label"] in "ab"
    assert "other heads" in use(".inspect", f"run={tuned}", "what=architecture")
    name = type(AutoModelForSequenceClassification.from_pretrained(folder)).__name__
    assert name in (folder / "README.md").read_text()

    use("", f"trainer.resume={run.name}", "trainer.max_steps=24")
    assert summary(run)["budget"]["step"] == 24
    card = (run / "model" / "README.md").read_text()
    assert f"| `eval/loss` | {summary(run)['metrics']['eval/loss']:.3f} |" in card
    assert "after 24 steps" in card


def test_families_are_compared(
    trained: Callable[[str, str], Path], use: Callable[..., str]
) -> None:
    runs = [trained(family, tokenizer) for family, tokenizer in USUAL.items()]
    compared = use(".compare", *(run.name for run in runs))
    assert all(family in compared for family in USUAL)
