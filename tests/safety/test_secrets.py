"""Keys of the environment stay there, and code of others is never run."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safety.inputs import Trap

SECRETS = {
    "WANDB_API_KEY": "5ec2e7" + "a" * 34,
    "HF_TOKEN": "hf_" + "SeCrEtToKeN" * 3,
    "HUGGING_FACE_HUB_TOKEN": "hf_" + "OtherToken" * 3,
    "AWS_SECRET_ACCESS_KEY": "aws-" + "Z" * 36,
}
# Nobody answers: every error of the network is provoked, and could quote what was sent.
UNREACHABLE = {
    **{"WANDB_BASE_URL": "http://127.0.0.1:9", "HF_ENDPOINT": "http://127.0.0.1:9"},
    "WANDB_HTTP_TIMEOUT": "2",
}
SMALL = (
    *("dataset=synthetic", "dataset.synthetic.documents=60", "tokenizer.vocab_size=256"),
    "evaluation.probes=[]",
    *("model.hidden_size=16", "model.intermediate_size=16", "evaluation.max_examples=8"),
    *("trainer.epochs=null", "trainer.max_steps=2", "hardware.threads=1"),
)


def check(done: Any) -> None:
    for name, secret in SECRETS.items():
        assert secret not in done.output + done.errors, name
        for path in done.folder.rglob("*"):
            if path.is_file():
                assert secret.encode() not in path.read_bytes(), f"{name} is in {path}"


def test_no_key_is_in_any_file_of_a_sweep_that_fails_in_part(command: Callable[..., Any]) -> None:
    done = command(
        *("-m", *SMALL, "tracker.mode=auto", "sweep=ours", "hardware=cpu"),
        "model.pretrained=null,some/model",
        **SECRETS,
        **UNREACHABLE,
    )
    assert done.code == 1
    check(done)
    assert "Tracked offline" in done.output + done.errors
    assert list(done.folder.glob("outputs/wandb/offline-run-*/*.wandb"))
    summaries = done.folder.glob("outputs/sweeps/ours/*/summary.json")
    assert sorted('"finished"' in path.read_text() for path in summaries) == [False, True]
    assert list(done.folder.glob("outputs/sweeps/ours/*.html"))


@pytest.mark.parametrize(
    "key", ["name", "tracker.project", "tracker.tags", "seed", "dataset.files"]
)
def test_a_key_named_in_the_configuration_is_refused(command: Callable[..., Any], key: str) -> None:
    given = "${oc.env:WANDB_API_KEY}"
    value = f"[a,{given}]" if key in ("tracker.tags", "dataset.files") else given
    done = command(*SMALL, f"{key}={value}", **SECRETS)
    assert done.code == 1
    assert done.lines == [
        f"error: {key}: must not hold the environment's WANDB_API_KEY: configurations are written "
        "to logs and trackers."
    ]
    check(done)


def test_a_pickle_in_the_cache_is_not_run(
    experiment_config: Callable[..., Any], empty_cache: Path, tmp_path: Path
) -> None:
    from bertexp.data.corpora.corpus import prepare

    config = experiment_config("dataset=synthetic", "dataset.synthetic.documents=60").dataset
    corpus = prepare(config)
    trap = np.array([Trap(tmp_path / "sprung")], dtype=object)
    paths = list(corpus.folder.glob("**/*.npy"))
    assert paths
    for path in paths:
        np.save(path, trap, allow_pickle=True)
    # Of another size, so that it is built again; and were it of the same, it is not executed.
    with pytest.raises(ValueError, match=r"allow_pickle=False|Python objects"):
        list(corpus.documents("train"))
    list(prepare(config).documents("train"))
    assert not (tmp_path / "sprung").exists()


# What runs code that is data, and what fetches other than through the Hub's client.
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_MODULES = {
    *("pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"),
    *("requests", "urllib", "httpx", "http", "ftplib", "socket"),
}
FORBIDDEN_NAMES = {"unsafe_load", "full_load", "system", "popen", "read_pickle", "urlretrieve"}


def test_no_line_of_the_package_runs_data_or_fetches_by_itself() -> None:
    package = Path(__file__).parents[2] / "bertexp"
    plugins = package.parent / "hydra_plugins"
    found = []
    for path in sorted([*package.rglob("*.py"), *plugins.rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            if problem := _problem(node):
                found.append(f"{path}:{node.lineno}: {problem}")  # type: ignore[attr-defined]
    assert found == []


def _problem(node: ast.AST) -> str | None:
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        return next((name for name in names if name.split(".")[0] in FORBIDDEN_MODULES), None)
    if not isinstance(node, ast.Call):
        return None
    options = {option.arg: option.value for option in node.keywords}
    for option, allowed in (
        ("trust_remote_code", False),
        ("allow_pickle", False),
        ("shell", False),
        ("weights_only", True),
        ("use_safetensors", True),
    ):
        value = options.get(option)
        if value is not None and not (isinstance(value, ast.Constant) and value.value is allowed):
            return option
    if isinstance(node.func, ast.Name):
        return node.func.id if node.func.id in FORBIDDEN_CALLS else None
    if isinstance(node.func, ast.Attribute):
        called = ast.unparse(node.func)
        if called == "torch.load" and "weights_only" not in options:
            return called
        harmless = called == "platform.system"
        return called if node.func.attr in FORBIDDEN_NAMES and not harmless else None
    return None
