"""``python -m bertexp.predict``: against transformers' pipeline and models, and mistakes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForPreTraining,
    BertForSequenceClassification,
    BertForTokenClassification,
    pipeline,
)

import bertexp
from bertexp.experiment.saved import find_saved
from bertexp.predict.prediction import Predictor
from bertexp.predict.results import Mask, Prediction
from bertexp.predict.unmasking import Unmasking
from bertexp.validation import UserError

Trained = Callable[[str], Path]
Answers = tuple[Any, list[dict[str, Any]]]


def texts(run: Path) -> list[str]:
    """Return sentences of words that the run's vocabulary has."""
    vocabulary = AutoTokenizer.from_pretrained(run / "model").get_vocab()
    words = sorted(word for word in vocabulary if word.isalpha() and len(word) > 3)
    return [" ".join(words[start : start + 5]) + " ." for start in (0, 5, 10)]


@pytest.fixture(scope="module")
def answers(command: Callable[..., Any], trained: Trained) -> Answers:
    """What a model of both kinds answers to four lines, the third of which is empty."""
    run = trained("mlm_nsp")
    one, two, three = texts(run)
    lines = [f"{one} [MASK] [MASK]", two, "", f"{two}\t{three}"]
    done = command(str(run), "--json", module="bertexp.predict", stdin="\n".join(lines))
    return done, [json.loads(line) for line in done.output.splitlines()]


def test_masks_are_filled_as_by_the_pipeline(answers: Answers, trained: Trained) -> None:
    masked = answers[1][0]
    fill = pipeline("fill-mask", model=str(trained("mlm_nsp") / "model"), top_k=5)
    ids = fill.tokenizer(masked["text"]).input_ids
    places = [place for place, id in enumerate(ids) if id == fill.tokenizer.mask_token_id]
    assert [mask["position"] for mask in masked["masks"]] == places
    for mask, theirs in zip(masked["masks"], fill(masked["text"]), strict=True):
        assert [each["token"] for each in mask["likeliest"]] == [t["token_str"] for t in theirs]
        found = [each["probability"] for each in mask["likeliest"]]
        assert found == pytest.approx([each["score"] for each in theirs], abs=1e-6)
    assert (masked["tokens"], masked["pseudo_perplexity"], masked["follows"]) == ([], None, None)


@pytest.fixture(scope="module")
def theirs(trained: Trained) -> tuple[Any, Any]:
    """The same model and its tokenizer as transformers loads them."""
    folder = trained("mlm_nsp") / "model"
    return BertForPreTraining.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def test_a_text_is_scored_token_by_token(answers: Answers, theirs: tuple[Any, Any]) -> None:
    scored = answers[1][1]
    model, tokenizer = theirs
    ids = tokenizer(scored["text"], return_tensors="pt").input_ids
    expected = []
    for place in range(1, ids.shape[1] - 1):
        masked = ids.clone()
        masked[0, place] = tokenizer.mask_token_id
        with torch.no_grad():
            logits = model(masked).prediction_logits[0, place]
        expected.append(logits.log_softmax(-1)[ids[0, place]].item())
    assert [token["log_likelihood"] for token in scored["tokens"]] == pytest.approx(
        expected, abs=1e-5
    )
    names = tokenizer.convert_ids_to_tokens(ids[0, 1:-1])
    assert [token["token"] for token in scored["tokens"]] == names
    mean = sum(expected) / len(expected)
    assert scored["pseudo_perplexity"] == pytest.approx(math.exp(-mean), rel=1e-5)


def test_a_pair_is_judged(answers: Answers, theirs: tuple[Any, Any]) -> None:
    model, tokenizer = theirs
    done, found = answers
    judged = found[2]
    with torch.no_grad():
        read = tokenizer(judged["text"], judged["text_b"], return_tensors="pt")
        logits = model(**read).seq_relationship_logits
    assert judged["follows"] == pytest.approx(logits.softmax(-1)[0, 0].item(), abs=1e-6)
    # The empty line is reported and stops no other.
    assert (done.code, len(found)) == (1, 3)
    assert done.errors.splitlines() == [
        "error: line 3: text: is empty; it must have at least one token."
    ]


def test_answers_are_readable_too(command: Callable[..., Any], trained: Trained) -> None:
    run = trained("mlm_nsp")
    one, two, _ = texts(run)
    done = command(str(run / "checkpoints" / "step-6"), f"{one} [MASK]", two,
                   module="bertexp.predict")  # fmt: skip
    assert (done.code, done.errors) == (0, "")
    lines = done.output.splitlines()
    assert lines[0].split() == ["[MASK]", "at", "7", "probability"]
    assert len(lines) == 8
    assert lines[-1].startswith("follows with probability 0.")
    scored = command(str(run), one, module="bertexp.predict").output.splitlines()
    assert scored[0].split() == ["token", "log-likelihood"]
    assert scored[-1].startswith("pseudo-perplexity: ")


def test_every_usual_name_of_a_mask_is_the_mask(trained: Trained) -> None:
    run = trained("mlm")
    predict, (one, *_) = Predictor(find_saved(str(run))), texts(run)
    expected = predict(f"{one} [MASK]").masks
    assert len(expected) == 1
    for name in ("<mask>", "<|mask|>"):
        assert predict(f"{one} {name}").masks == expected


def test_masks_are_filled_one_after_another_surest_first(
    trained: Trained, theirs: tuple[Any, Any]
) -> None:
    """As the reference does it, without draws: predict all, keep the surest, mask the others."""
    run = trained("mlm_nsp")
    model, tokenizer = theirs
    text = f"{texts(run)[0]} [MASK] [MASK] [MASK] [MASK] [MASK]"
    found = Predictor(find_saved(str(run)))(text, unmasking=Unmasking(steps=3))
    ids = tokenizer(text, return_tensors="pt").input_ids
    expected = []
    for count in (2, 2, 1):
        with torch.no_grad():
            chances = model(ids).prediction_logits[0].softmax(-1)
        chances[:, tokenizer.all_special_ids] = 0
        chances /= chances.sum(-1, keepdim=True)
        surest, tokens = chances.max(-1)
        surest[ids[0] != tokenizer.mask_token_id] = -1
        for place in surest.topk(count).indices.tolist():
            ids[0, place] = tokens[place]
            name = tokenizer.convert_ids_to_tokens(tokens[place].item())
            expected.append((place, name, surest[place].item()))
    assert [(mask.position, mask.likeliest[0][0]) for mask in found.masks] == [
        (place, name) for place, name, _ in expected
    ]
    chances_of = [mask.likeliest[0][1] for mask in found.masks]
    assert chances_of == pytest.approx([chance for *_, chance in expected], rel=1e-4)
    assert found.written == tokenizer.decode(ids[0, 1:-1])


def test_a_diffusion_run_writes_and_any_other_can(
    command: Callable[..., Any], trained: Trained
) -> None:
    run = trained("diffusion")
    text = f"{texts(run)[0]} [MASK] [MASK]"
    (line,) = command(str(run), text, module="bertexp.predict").lines
    assert "[MASK]" not in line
    assert line.startswith(texts(run)[0].removesuffix(" ."))
    table = command(str(run), text, "--steps", "0", module="bertexp.predict").lines
    assert table[0].split() == ["[MASK]", "at", "7", "probability"]
    predict = Predictor(find_saved(str(trained("mlm"))))
    drawn = [predict.write("", 20, Unmasking(seed=seed)).written for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_options_that_would_not_be_read_are_refused(
    command: Callable[..., Any], trained: Trained
) -> None:
    refused = {
        ("[MASK]", "--seed", "1"): "--seed 1: draws tokens where masks are",
        ("[MASK]", "--steps", "1", "--temperature", "2"): "--temperature 2: applies to",
        ("a", "b", "--write", "3"): "--write=3: must be for one text, or none.",
        ("a", "--write", "3", "--steps", "0"): "--steps=0: must be above 0 with --write.",
        ("a", "--write", "none"): "argument --write: none: must be an integer of at least 1",
    }
    for arguments, message in refused.items():
        done = command(str(trained("mlm")), *arguments, module="bertexp.predict")
        assert done.code == 1
        assert len(done.lines) == 1
        assert done.lines[0].startswith(f"error: {message}")


def test_what_a_model_cannot_answer_is_an_error(trained: Trained) -> None:
    masked, pairs = (Predictor(find_saved(str(trained(task)))) for task in ("mlm", "nsp"))
    refused: dict[str, Callable[[], object]] = {
        "text: the model scores pairs only; give a second text.": lambda: pairs("it is"),
        "text: has a [MASK], but the model scores pairs only.": lambda: pairs("[MASK]", "it"),
        "text_b: the model predicts masked tokens only; give one text, or a [MASK].": (
            lambda: masked("it", "is")
        ),
        "text: has 72 tokens with [CLS] and [SEP], the model takes 64; shorten it.": (
            lambda: masked(". " * 70)
        ),
        "text: is empty; it must have at least one token.": lambda: masked(" "),
    }
    for message, predict in refused.items():
        with pytest.raises(UserError) as caught:
            predict()
        assert str(caught.value) == message


def test_a_model_that_is_none_is_refused_in_one_line(
    command: Callable[..., Any], trained: Trained, tmp_path: Path
) -> None:
    done = command("a [MASK] text", module="bertexp.predict")
    message = "error: RUN is missing, a run's folder before the text: RUN 'a [MASK] text'."
    assert (done.code, done.lines) == (1, [message])
    done = command("no/such/run", "it", module="bertexp.predict")
    assert (done.code, done.lines) == (1, ["error: run=no/such/run: there is no such folder."])
    if not torch.cuda.is_available():
        done = command(str(trained("mlm")), "it", "--device", "gpu", module="bertexp.predict")
        message = (
            "error: hardware.device=gpu: torch finds no GPU; use hardware=auto or hardware=cpu."
        )
        assert (done.code, done.lines) == (1, [message])
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    (tmp_path / "run" / ".hydra" / "config.yaml").write_text("seed: 0")
    with pytest.raises(UserError, match="has saved no model yet"):
        find_saved(str(tmp_path / "run"))
    with pytest.raises(UserError, match=r"holds 1 run, as a sweep.* such as \S+/run\.$"):
        bertexp.load(tmp_path)
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = BertConfig(vocab_size=256, intermediate_size=8, **size)
    tokenizer = AutoTokenizer.from_pretrained(trained("mlm") / "model")
    for kind, end in (
        (BertForTokenClassification, r"\."),
        (BertForSequenceClassification, r"; pipeline\('text-classification', RUN\) of .*\."),
    ):
        for part in (kind(config), tokenizer):
            part.save_pretrained(tmp_path / kind.__name__)
        said = rf"its {kind.__name__} predicts neither masked tokens nor pairs{end}$"
        with pytest.raises(UserError, match=said):
            Predictor(find_saved(str(tmp_path / kind.__name__)))


def test_a_line_that_is_not_utf_8_stops_no_other(
    command: Callable[..., Any], trained: Trained
) -> None:
    run = trained("mlm_nsp")
    one, two, _ = texts(run)
    lines = "\n".join((one, "caf\udce9 .", two))
    done = command(str(run), "--json", module="bertexp.predict", stdin=lines)
    assert done.code == 1
    assert done.errors.splitlines() == ["error: line 2: is not UTF-8 (byte 0xe9 at 4)."]
    assert [json.loads(line)["text"] for line in done.output.splitlines()] == [one, two]


@pytest.mark.parametrize(
    ("text", "mask", "hint"),
    [
        ("a [mask] .", "[MASK]", "no [MASK] in the text; [mask] is plain text here: write [MASK]"),
        ("a [MASK] .", "<mask>", "no <mask> in the text; [MASK] is plain text here: write <mask>"),
        ("a mask .", "[MASK]", None),
    ],
)
def test_another_spelling_of_the_mask_gets_a_hint(text: str, mask: str, hint: str | None) -> None:
    lines = str(Prediction(text, None, tokens=[("a", -1.0)], mask=mask)).splitlines()
    assert [line for line in lines if "plain text" in line] == [hint] * (hint is not None)
    filled = Prediction(text, None, masks=[Mask(2, [("a", 0.5)])], mask=mask)
    assert "plain text" not in str(filled)
