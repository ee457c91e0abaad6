"""Hidden states, attention and embeddings: numbers against transformers, pictures, the page."""

from __future__ import annotations

import base64
import itertools
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from matplotlib.figure import Figure
from PIL import Image
from transformers import AutoTokenizer, BertForPreTraining

from bertexp.config import Config, conf_dir, parse
from bertexp.experiment.saved import find_saved
from bertexp.families.build import build_model
from bertexp.inspect import TOPICS
from bertexp.inspect.attention import Attention, render_attention
from bertexp.inspect.config import InspectConfig
from bertexp.inspect.subject import Subject
from bertexp.inspect.vectors import label_points
from bertexp.validation import UserError

PICTURES = ("hidden.png", "attention.png", "embeddings.png")


def test_a_run_may_be_named_as_in_other_commands(command: Callable[..., Any]) -> None:
    done = command("outputs/nowhere", "what=tokens", module="bertexp.inspect")
    assert done.code == 1
    assert done.lines[0].startswith("error: run=outputs/nowhere: there is no such folder")


@dataclass(frozen=True)
class Look:
    """What a look printed, where it wrote, and the same by ``transformers`` alone."""

    output: str
    folder: Path
    tokens: list[str]
    theirs: Any
    table: np.ndarray

    def row(self, name: str, table: int = 0) -> list[str]:
        """Return the cells behind a row's name, in the nth table that has it."""
        found = re.findall(rf"^{name} +(.*)$", self.output, re.MULTILINE)
        cells: list[str] = found[table].replace("−", "-").split()
        return cells


@pytest.fixture(scope="module")
def words(trained: Callable[[str], Path]) -> list[str]:
    """Some words of the made-up language."""
    vocabulary = AutoTokenizer.from_pretrained(trained("mlm_nsp") / "model").get_vocab()
    return sorted(word for word in vocabulary if re.fullmatch("[a-z]{4,}", word))


@pytest.fixture(scope="module", params=["trained", "base"])
def look(
    request: pytest.FixtureRequest,
    command: Callable[..., Any],
    trained: Callable[[str], Path],
    experiment_config: Callable[..., Config],
    words: list[str],
) -> Look:
    run = trained("mlm_nsp")
    text, text_b = " ".join(words[:5]) + " .", " ".join(words[3:8])
    model: Any
    if request.param == "trained":
        chosen = [f"run={run}"]
        model = BertForPreTraining.from_pretrained(run / "model", attn_implementation="eager")
    else:
        chosen = ["model=base", "tokenizer=pretrained", f"tokenizer.path={run / 'model'}"]
        config = experiment_config(*chosen)
        tokenizer = find_saved(str(run)).load_tokenizer()
        model = build_model(
            config.family, config.model, frozenset({"masked"}), tokenizer, 128, config.seed
        )
        model.set_attn_implementation("eager")
    done = command("what=hidden,attention,embeddings", f"text={text}", f"text_b={text_b}",
                   "output=seen", "tracker=wandb", "tracker.mode=offline", *chosen,
                   module="bertexp.inspect")  # fmt: skip
    assert done.code == 0, done.lines
    read = AutoTokenizer.from_pretrained(run / "model")(text, text_b, return_tensors="pt")
    with torch.no_grad():
        theirs = model.eval().bert(**read, output_hidden_states=True, output_attentions=True)
    tokens = AutoTokenizer.from_pretrained(run / "model").convert_ids_to_tokens(read.input_ids[0])
    table = model.bert.embeddings.word_embeddings.weight.detach().numpy()
    return Look(done.output, done.folder / "seen", tokens, theirs, table)


def test_labels_of_near_points_do_not_overlap() -> None:
    figure = Figure()
    axes = figure.add_subplot(xlim=(-1, 1), ylim=(-1, 1))
    figure.draw_without_rendering()
    label_points(axes, np.full((6, 2), 0.01) * np.arange(6)[:, None], ["token"] * 6, [{}] * 6)
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 6
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_hidden_states_are_those_of_transformers(look: Look) -> None:
    before = None
    for layer, state in enumerate(look.theirs.hidden_states):
        vectors = state[0].numpy()
        cosines = [
            a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            for n, a in enumerate(vectors)
            for b in vectors[:n]
        ]
        expected = [np.linalg.norm(vectors, axis=1).mean(), np.mean(cosines)]
        if before is not None:
            moved = np.linalg.norm(vectors - before, axis=1) / np.linalg.norm(before, axis=1)
            expected.append(moved.mean())
        before = vectors
        cells = look.row(str(layer) if layer else "embeddings")
        assert cells[:5:2] == [str(size) for size in state.shape]
        assert [*map(float, cells[5:])] == pytest.approx(expected, abs=6e-4)


def test_attention_is_that_of_transformers(look: Look) -> None:
    page = (look.folder / "attention.html").read_text()
    found = re.search(r'id="data">(.*?)</script>', page)
    assert found is not None
    data = json.loads(found[1])
    attentions = torch.stack(look.theirs.attentions)[:, 0].numpy()
    stored = np.frombuffer(base64.b64decode(data["weights"]), "<u2") / data["scale"]
    np.testing.assert_allclose(stored.reshape(attentions.shape), attentions, atol=2e-5)
    assert data["tokens"] == look.tokens
    count = len(look.tokens)
    for layer, heads in enumerate(attentions):
        entropies, distances = [], []
        for head in heads:
            entropies.append(np.mean([-sum(p * math.log(p) for p in row if p) for row in head]))
            away = [[abs(i - j) for j in range(count)] for i in range(count)]
            distances.append(np.mean(np.sum(head * away, axis=1)))
        name = f"layer {layer + 1}"
        assert [*map(float, look.row(name))] == pytest.approx(entropies, abs=6e-3)
        assert [*map(float, look.row(name, 1))] == pytest.approx(distances, abs=6e-2)


def test_neighbours_are_the_nearest(look: Look, trained: Callable[[str], Path]) -> None:
    vocabulary = AutoTokenizer.from_pretrained(trained("mlm_nsp") / "model").get_vocab()
    token = look.tokens[1]
    vector = look.table[vocabulary[token]]
    cosines = {
        other: look.table[index] @ vector / np.linalg.norm(look.table[index])
        for other, index in vocabulary.items()
        if other != token and not other.startswith("[")
    }
    nearest = sorted(cosines, key=lambda other: -cosines[other])[:5]
    cells = look.row(token)
    assert cells[:10:2] == nearest
    expected = [cosines[other] / np.linalg.norm(vector) for other in nearest]
    assert [*map(float, cells[1:10:2])] == pytest.approx(expected, abs=6e-3)


def test_pictures_are_there_and_named(look: Look) -> None:
    for name in PICTURES:
        with Image.open(look.folder / name) as picture:
            assert picture.width > 800 and picture.height > 400
            colours = picture.convert("RGB").getcolors(picture.width * picture.height)
            assert len(colours) > 20
    said = [line for line in look.output.splitlines() if line.startswith("seen/")]
    assert {*said} == {f"seen/{name}" for name in (*PICTURES, "attention.html")}
    assert {path.name for path in look.folder.iterdir()} == {Path(path).name for path in said}


def test_pictures_and_the_page_are_in_wandb_too(look: Look, leet: Callable[..., str]) -> None:
    (file,) = (look.folder.parent / "outputs" / "wandb").glob("offline-run-*/*.wandb")
    logged = json.loads(leet(file, "--summary"))
    assert (logged["state"], logged["tags"]) == ("finished", ["inspect"])
    for name in (*PICTURES, "attention.html"):
        key = "attention_page" if name == "attention.html" else Path(name).stem
        entry = logged["summary"][f"inspection/{key}"]
        media = (file.parent / "files" / entry["path"]).read_bytes()
        # W&B puts a line of its own into a page's head.
        own = (look.folder / name).read_bytes().rpartition(b"<head>")[2]
        assert len(own) > 1000 and own in media
    assert "wandb sync outputs/wandb/offline-run-" in look.output


def test_a_heat_map_a_head_or_a_layer_is_labelled_with_the_tokens() -> None:
    weights = torch.rand(5, 5, 4, 4, dtype=torch.float64).softmax(-1)
    found = Attention(["[CLS]", "it", "$is$", "[SEP]"], weights)
    for layer, kind, expected in ((2, "head", weights[1]), (None, "layer", weights.mean(1))):
        maps = [axes for axes in found.plot(layer).axes if axes.get_title(loc="left")]
        assert [axes.get_title(loc="left") for axes in maps] == [f"{kind} {n}" for n in range(1, 6)]
        for axes, head in zip(maps, expected, strict=True):
            np.testing.assert_array_equal(axes.images[0].get_array(), head)
        # Four maps a row: the last of each column is labelled below, the first of a row beside.
        below = [[text.get_text() for text in axes.get_xticklabels()] for axes in maps]
        assert below == [[], *[found.tokens] * 4]
        beside = [[text.get_text() for text in axes.get_yticklabels()] for axes in maps]
        assert beside == [found.tokens, [], [], [], found.tokens]


def test_texts_and_names_are_text_on_the_page_whatever_they_hold() -> None:
    hostile = "</script><script>alert(1)</script>"
    page = render_attention(
        Attention([hostile, "<b>"], torch.full((1, 1, 2, 2), 0.5), model=hostile)
    )
    assert page.count("<script") == 2, "the page's own: its data and its script"
    assert "<b>" not in page and "alert(1)<" not in page


def test_a_head_is_picked_and_read_on_the_page(browser: Any, look: Look) -> None:
    browser.open(look.folder / "attention.html")
    attentions = torch.stack(look.theirs.attentions)[:, 0]
    layers, heads, _, _ = attentions.shape
    title = "document.querySelector('#one h2').innerText"
    cells = "[...document.querySelectorAll('#one .cell')].map((c) => +c.getAttribute('opacity'))"
    pressed = "document.querySelectorAll('#all [aria-pressed=true]').length"
    assert browser.evaluate("document.querySelectorAll('#all canvas').length") == layers * (
        heads + 1
    )
    for head in (2, "mean"):
        browser.click(f"[data-layer='2'][data-head='{head}']")
        named = "head 2" if head == 2 else "mean of the heads"
        assert browser.evaluate(title) == f"Layer 2, {named}"
        expected = attentions[1, 1] if head == 2 else attentions[1].mean(0)
        found = browser.evaluate(cells)
        np.testing.assert_allclose(found, expected.flatten(), atol=1e-4)
        assert browser.evaluate(pressed) == 1
    browser.click("#one .cell:nth-of-type(4)")
    read = browser.evaluate("document.querySelector('#one .readout').innerText")
    share = 100 * attentions[1].mean(0)[0, 2].item()
    assert read == f"{look.tokens[0]} (0) gives {look.tokens[2]} (2) {share:.1f}% of its attention."
    browser.evaluate("document.querySelector('#one svg').focus()")
    browser.press("ArrowLeft")
    read = browser.evaluate("document.querySelector('#one .readout').innerText")
    assert f"{look.tokens[1]} (1)" in read
    rows = "[...document.querySelectorAll('#one text.row')].map((t) => t.textContent)"
    assert browser.evaluate(rows) == look.tokens
    asked = [e["params"]["request"]["url"] for e in browser.events if "request" in e["params"]]
    wrong = [
        e for e in browser.events if e["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")
    ]
    assert (asked[1:], wrong) == ([], [])


TOO_LONG = "text: has 92 tokens with [CLS] and [SEP], the model takes 64; shorten it."


def test_a_mistake_is_one_line(command: Callable[..., Any], trained: Callable[[str], Path]) -> None:
    text = "text=" + ". " * 90
    done = command("what=attention", f"run={trained('mlm')}", text, module="bertexp.inspect")
    assert (done.code, done.lines) == (1, [f"error: {TOO_LONG}"])
    assert not (done.folder / "outputs").exists()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("what=[hidden]", f"text='{'. ' * 90}'"), TOO_LONG),
        (("what=[tokens]", "text=' '"), "text: is empty; it must have at least one token."),
        (("what=[hidden]", "text_b=''"), "text_b: is empty; it must have at least one token."),
        (("what=[attention]", "layer=3"), "layer=3: must be 1 to 2, or null."),
        (("what=[embeddings]", "text='\u6f22'"), "text: has no word of the vocabulary to look up."),
    ],
)
def test_what_cannot_be_shown_is_said(
    trained: Callable[[str], Path], overrides: tuple[str, ...], said: str
) -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = parse(compose("inspect", overrides=[*overrides]), InspectConfig)
    subject = Subject(config, find_saved(str(trained("mlm"))))
    with pytest.raises(UserError) as caught:
        TOPICS[config.what[0]](subject)
    assert str(caught.value) == said
    assert subject.files == []


def test_attention_is_shown_as_the_task_has_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    small = ("dataset=synthetic", "+size=smoke", "tokenizer.vocab_size=256")
    for task, is_causal in (("clm", True), ("mntp", False)):
        overrides = (*small, f"task={task}", "what=[attention]", "text='a a a'")
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            composed = compose("inspect", overrides=[*overrides, f"output={tmp_path}"])
        subject = Subject(parse(composed, InspectConfig), None)
        TOPICS["attention"](subject)
        output = capfd.readouterr().out
        count = len(subject.input)
        most = np.mean(np.log(np.arange(1, count + 1))) if is_causal else math.log(count)
        assert f"({most:.2f} for all tokens alike)" in output
        assert ("Attention is causal" in output) == is_causal
        page = (tmp_path / "attention.html").read_text()
        data = json.loads(re.findall(r'<script[^>]*json"[^>]*>(.*?)</script>', page, re.DOTALL)[0])
        stored = np.frombuffer(base64.b64decode(data["weights"]), "<u2")
        weights = stored.reshape(-1, count, count)
        assert (np.triu(weights, 1) == 0).all() == is_causal
        assert np.max(data["entropy"]) <= most + 1e-3
