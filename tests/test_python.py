"""``import bertexp``: what docs/python.md shows, and that the process is left as it was."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from transformers import AutoTokenizer, BertForPreTraining, pipeline

import bertexp
from bertexp.api.process import written
from bertexp.config import conf_dir

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
TEXT = "dikuf napudo mud par ."

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The names that the examples of the page leave, after all of them have run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("work"))
        patch.setenv("BERTEXP_CACHE", str(tmp_path_factory.mktemp("cache")))
        names: dict[str, Any] = {"before": _state()}
        for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
            exec(block, names)
        names["after"] = _state()
        yield names


def _state() -> dict[str, Any]:
    root = logging.getLogger()
    return {
        "arguments": [*sys.argv],
        "environment": {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"},
        "log": ([*root.handlers], root.level, logging.raiseExceptions),
        "signals": [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)],
        "hydra": GlobalHydra.instance().hydra,
        "main": vars(sys.modules["__main__"]).get("__file__"),
        "threads": torch.get_num_threads(),
        "random": torch.get_rng_state().tolist(),
        "precision": torch.get_float32_matmul_precision(),
        "folder": os.getcwd(),
    }


def test_the_process_is_left_as_it_was(page: dict[str, Any]) -> None:
    before, after = page["before"], page["after"]
    # Libraries add variables of their own.
    after["environment"] = {
        k: v for k, v in after["environment"].items() if k in before["environment"]
    }
    assert after == before


def test_a_run_is_its_folder(page: dict[str, Any]) -> None:
    run = page["run"]
    summary = json.loads((run.folder / "summary.json").read_text())
    assert run.summary == summary and summary["status"] == "finished"
    known = {name: value for name, value in summary["metrics"].items() if value is not None}
    assert run.metrics.to_dict() == known
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert run.curve.index.tolist() == sorted({line["step"] for line in lines})
    for line in lines:
        for name, value in line.items():
            if name != "step" and value is not None and name.startswith("train/loss"):
                assert run.curve.loc[line["step"], name] == value
    assert run.config.task.name == "mlm_nsp" and run.config.seed == 1
    assert type(run.model) is BertForPreTraining
    assert run.folder.parts[-3] == "outputs"


@pytest.fixture(scope="module")
def theirs(page: dict[str, Any]) -> tuple[Any, Any]:
    folder = page["run"].folder / "model"
    model = BertForPreTraining.from_pretrained(folder, attn_implementation="eager").eval()
    return model, AutoTokenizer.from_pretrained(folder)


@torch.no_grad()
def test_the_model_answers_as_in_transformers(page: dict[str, Any], theirs: Any) -> None:
    run, (model, tokenizer) = page["run"], theirs
    filled = run.fill(f"[MASK] {TEXT}").masks[0]
    fill = pipeline("fill-mask", model=str(run.folder / "model"), top_k=5)
    found = [(each["token_str"], each["score"]) for each in fill(f"[MASK] {TEXT}")]
    assert [token for token, _ in filled.likeliest] == [token for token, _ in found]
    read = tokenizer(TEXT, "mud .", return_tensors="pt")
    follows = model(**read).seq_relationship_logits.softmax(-1)[0, 0].item()
    assert run.next_sentence(TEXT, "mud .") == pytest.approx(follows, abs=1e-6)
    read = tokenizer(TEXT, return_tensors="pt")
    output = model(**read, output_attentions=True, output_hidden_states=True)
    attention = run.attention(TEXT)
    assert attention.tokens == tokenizer.convert_ids_to_tokens(read.input_ids[0])
    expected = torch.stack(output.attentions)[:, 0].double()
    torch.testing.assert_close(attention.weights, expected, atol=1e-5, rtol=0)
    states = output.hidden_states[-1][0].mean(0).numpy()
    features = run.features([TEXT, "mud ."])
    assert features.shape == (2, 32)
    np.testing.assert_allclose(features[0], states, atol=1e-5)


def test_a_run_whose_folder_was_removed(page: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(page["run"].folder / ".hydra", tmp_path / "run" / ".hydra")
    run = bertexp.load(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    for use in (lambda: run.metrics, lambda: run.config, lambda: str(run)):
        with pytest.raises(bertexp.UserError, match=r"run: the run's folder is gone\.$"):
            use()


def test_masks_are_those_that_were_wanted(page: dict[str, Any]) -> None:
    run, text = page["run"], " ".join(20 * ["mud"])
    low = run.masks(text, prob=0.15, draws=20)
    high = run.masks(text, prob=0.4, draws=20, replace={"mask": 1.0, "random": 0.0, "keep": 0.0})
    for found, rate in ((low, 0.15), (high, 0.4)):
        assert found.predicted.shape == (20, 22)
        assert not found.predicted[:, [0, -1]].any()
        assert found.predicted[:, 1:-1].mean() == pytest.approx(rate, abs=0.02)
    assert (low.predicted <= high.predicted).all()
    assert (np.array(high.seen) == "[MASK]").tolist() == high.predicted.tolist()
    assert set(np.array(low.tokens)[1:-1]) == {"mud"}


def test_a_comparison_answers_in_tables(
    page: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = page["answer"]
    runs = [bertexp.load(path) for path in sorted(Path("outputs/sweeps/rates").glob("*/"))]
    values = {run.config.masking.prob: [] for run in runs if run.folder}
    for run in runs:
        values[run.config.masking.prob].append(run.metrics["eval/loss@0.15"])
    table = answer.table
    assert table["seeds"].tolist() == [2, 2]
    assert sorted(table["mean"]) == pytest.approx(sorted(np.mean(v) for v in values.values()))
    assert bertexp.compare(*runs).table["mean"].notna().all()
    assert len(answer.verdicts) == 1
    assert answer.verdicts.iloc[0] in ("better", "worse", "not resolved")
    assert {path.name for path in Path("figures").iterdir()} >= {"compare.html", "metric.png"}
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tmp_path / "figures" / "metric.png" in answer.save("~/figures")


class Tags(HTMLParser):
    """Checks that tags are closed in order."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.feed(content)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in ("img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_they_show_themselves(page: dict[str, Any]) -> None:
    run = page["run"]
    masked = run.masks(f"{TEXT} <script>", prob=0.9)
    assert re.search(r'<span style="color: #\w+[^>]*>\[mud\]', masked._repr_html_())
    assert "script" not in Tags(masked._repr_html_()).seen
    assert "[mud]" in str(masked) and "<span" not in repr(masked)
    assert "img" in Tags(run._repr_html_()).seen and "eval/loss" in run._repr_html_()
    answer = page["answer"]
    assert "img" in Tags(answer._repr_html_()).seen and "masking.prob" in str(answer)
    assert "iframe" in Tags(run.attention(TEXT)._repr_html_()).seen
    for figure in (answer.plot(), run.attention(TEXT).plot(layer=2)):
        assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]


def test_what_inspect_finds_is_shown_and_not_printed(
    page: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    found = bertexp.inspect(what="hidden", text="${seed} [a", run=page["run"].folder)
    assert capsys.readouterr().out == ""
    assert [path.name for path in found.files] == ["hidden.png"]
    assert "5 hidden states" in str(found) and "img" in Tags(found._repr_html_()).seen


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: bertexp.run("maskin.prob=0.2"), "maskin.prob: no such key. Did you mean"),
        (lambda: bertexp.run(task="mlmm"), "task=mlmm: must be one of clm, "),
        (lambda: bertexp.run(**{"masking.prob": 2}), "masking.prob=2: must be a number above 0"),
        (lambda: bertexp.run("masking.prob=0.1,0.2"), "masking.prob=0.1,0.2: several values are"),
        (lambda: bertexp.run(experiment="mask_rate"), "experiment=mask_rate: is a sweep; use"),
        (lambda: bertexp.run("trainer.dry_run=true"), "trainer.dry_run=true: leaves no run"),
        (lambda: bertexp.run("--help"), "--help: is an option of the command"),
        (lambda: bertexp.load("no/such/folder"), "run=no/such/folder: there is no such folder."),
        (lambda: bertexp.compare("nothing"), "nothing: no such folder."),
        (lambda: bertexp.sweep("seed=0,1", until="sure"), "until=sure: must be one of resolved"),
        (lambda: bertexp.sweep("seed=0,1", until="resolved"), "hydra/sweeper=resolve: compares"),
        (lambda: bertexp.inspect(what="soul"), "what=soul: must be one of "),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    page: dict[str, Any], call: Callable[[], Any], line: str
) -> None:
    before = sorted(Path("outputs").rglob("*"))
    with pytest.raises(bertexp.UserError) as caught:
        call()
    assert line in str(caught.value) and len(str(caught.value).splitlines()) == 1
    assert caught.value._render_traceback_() == [f"error: {caught.value}"]
    assert sorted(Path("outputs").rglob("*")) == before
    assert _state()["log"] == page["before"]["log"]


def test_mistakes_of_a_runs_methods_are_lines_too(page: dict[str, Any]) -> None:
    run = page["run"]
    for call, line in (
        (
            lambda: run.masks(TEXT, prb=0.2),
            "masking.prb: no such key. Did you mean 'masking.prob'?",
        ),
        (lambda: run.fill(""), "text: is empty"),
        (lambda: run.fill(["two", "texts"]), "text=['two', 'texts']: must be a string"),
        (lambda: run.fill(TEXT, seed="1"), "seed=1: must be a whole number"),
        (lambda: run.features(5), "texts=5: must be a list of texts"),
        (lambda: run.fill(TEXT, steps=-1), "steps=-1: must be a whole number above 0"),
        (lambda: run.fill(TEXT, steps="2"), "steps=2: must be a whole number above 0"),
        (lambda: run.next_sentence(TEXT, None), "text_b=null: must be a string"),
        (lambda: run.attention([TEXT]), f"text=['{TEXT}']: must be a string"),
        (lambda: run.masks(TEXT, draws=0), "draws=0: must be a whole number above 0"),
        (lambda: run.features([TEXT, 2]), f"texts=['{TEXT}', 2]: must be a list of texts"),
        (lambda: run.features([TEXT], pooling="max"), "pooling=max: must be one of mean, cls"),
        (lambda: run.features("a text"), "texts=a text: must be a list of texts"),
        (lambda: run.features([]), "texts=[]: must be a list of texts, at least one"),
        (lambda: bertexp.load(5), "path=5: must be a folder or a name on the Hub"),
        (lambda: bertexp.load(run, device="gpus"), "device=gpus: must be one of auto, cpu"),
        (lambda: bertexp.run({"task": "nsp"}), "{'task': 'nsp'}: is no setting; write 'task=nsp'"),
        (lambda: bertexp.compare(run, margin=-1), "margin=-1: must be a number, 0 or above"),
        (lambda: bertexp.sweep("seed=0,1", margin="1%"), "margin=1%: must be a number, 0 or above"),
        (lambda: bertexp.compare([run, run]), "a run, a folder or a pattern; unpack a list"),
        (bertexp.compare, "compare: name runs, folders of runs or sweeps"),
        (lambda: bertexp.inspect(what="tokens", text=5), "text=5: must be a string"),
        (lambda: page["answer"].save(None), "folder=null: must be a path"),
        (lambda: page["answer"].plot("pie"), "plot=pie: must be one of"),
        (lambda: run.attention(TEXT).plot(layer=5), "layer=5: must be 1 to 4"),
        (lambda: bertexp.load(run.folder / "model" / "x"), "no such folder"),
    ):
        with pytest.raises(bertexp.UserError, match=re.escape(line)):
            call()


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ({"distribution": "uniform", "low": 0.0, "high": 1}, "masking.prob"),
        ([0.1, 0.4], "evaluation.mask_probs"),
        ("a, b [c] 'd' {e} =", "name"),
        ("null", "name"),
        (None, "name"),
        (Path("some where/a,b.txt"), "tokenizer.path"),
        (5e-5, "optimizer.lr"),
        (False, "masking.dynamic"),
        ([{"share": 0.5, "masking.prob": 0.3}, {"share": 0.5}], "phases"),
    ],
)
def test_python_values_are_what_hydra_reads(value: Any, key: str) -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = compose("config", [f"{key}={written(value)}"])
    found: Any = composed
    for name in key.split("."):
        found = found[name]
    assert found == (str(value) if isinstance(value, Path) else value)


def test_an_interrupted_run_resumes(page: dict[str, Any]) -> None:
    settings = {**page["tiny"], "trainer.max_steps": 100, "evaluation.every": None}
    log = Path("interrupted/metrics.jsonl")

    def interrupt() -> None:
        while not log.exists() or len(log.read_text().splitlines()) < 4:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        bertexp.run(**settings, **{"trainer.epochs": None, "hydra.run.dir": "interrupted"})
    thread.join()
    stopped = bertexp.load("interrupted")
    assert stopped.summary["status"] == "interrupted"
    assert 0 < stopped.curve.index.max() < 100
    assert "interrupted" in str(stopped)
    resumed = bertexp.run(**{"trainer.resume": "interrupted"})
    assert resumed.summary["status"] == "finished" and resumed.curve.index.max() == 100


def test_threads_take_turns(page: dict[str, Any]) -> None:
    loss = page["run"].metrics["eval/loss"]
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(bertexp.run, **page["tiny"], task="mlm_nsp", seed=seed) for seed in (1, 2)
        ]
    first, second = (run.result() for run in runs)
    assert first.metrics["eval/loss"] == loss
    assert (first.config.seed, second.config.seed) == (1, 2)
    assert _state()["log"] == page["before"]["log"]


SCRIPT = """
import json, sys
import bertexp
slow = {"torch", "transformers", "pandas", "hydra", "matplotlib"} & {*sys.modules}
settings = json.loads(sys.argv[1])
print(json.dumps([sorted(slow), bertexp.run(**settings).metrics["eval/loss"]]))
"""


def test_a_script_without_a_guard_trains_as_the_command(
    tmp_path: Path, command: Callable[..., Any], clean_environment: dict[str, str]
) -> None:
    for name in ("a", "b"):
        lines = (f"{name} {n} is a sentence of a paragraph, number {n * n}." for n in range(60))
        (tmp_path / f"{name}.txt").write_text("\n\n".join(lines))
    # Two files are prepared by two processes, which import the script again.
    settings = {
        "dataset": "text",
        "dataset.files": [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")],
        "hardware.threads": 2,
        "trainer.max_steps": 3,
        "model.hidden_size": 32,
        "tokenizer.vocab_size": 256,
        "evaluation.probes": [],
        "evaluation.max_examples": 8,
        "evaluation.pseudo_perplexity": None,
        "tracker": "none",
    }
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = clean_environment | {"BERTEXP_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "script.py", json.dumps(settings)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    slow, loss = json.loads(done.stdout.splitlines()[-1])
    assert slow == []
    typed = [f"{key}={written(value)}" for key, value in settings.items()]
    told = command(*typed, "hydra.run.dir=run")
    assert told.code == 0, told.lines
    assert bertexp.load(told.folder / "run").metrics["eval/loss"] == loss
