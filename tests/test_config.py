"""The configuration: every option works, every mistake is one line, every key is used."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable
from dataclasses import is_dataclass
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bertexp.bench.config import BenchConfig
from bertexp.config import Config, RunConfig, conf_dir, keys, parse
from bertexp.evaluate.__main__ import EvaluateConfig
from bertexp.finetune.config import GLUE, FinetuneConfig
from bertexp.help import help_text
from bertexp.inspect.config import InspectConfig
from bertexp.keys import is_below
from bertexp.mistakes import explain
from bertexp.registry import with_own_keys
from bertexp.validation import UserError

# What an option cannot do without.
NEEDED = {
    ("model", "pretrained"): ["model.pretrained=/some/folder"],
    ("tokenizer", "pretrained"): ["tokenizer.path=/some/vocab.txt"],
}
OPTIONS = [
    (path.parent.name, path.stem)
    for path in sorted(conf_dir().glob("*/*.yaml"))
    if path.parent.name in get_type_hints(Config)
]


# An option of every group at once, until all have had their turn.
BY_GROUP = [[each for each in OPTIONS if each[0] == group] for group in dict(OPTIONS)]
TURNS = [[*filter(None, turn)] for turn in zip_longest(*BY_GROUP)]


@pytest.mark.parametrize("turn", TURNS, ids=lambda turn: " ".join(map("=".join, turn)))
def test_every_option_composes_and_is_known(
    experiment_config: Callable[..., Config], turn: list[tuple[str, str]]
) -> None:
    from bertexp.data.corpora import CORPORA
    from bertexp.masking import STRATEGIES
    from bertexp.objectives import OBJECTIVES

    needed = [override for each in turn for override in NEEDED.get(each, [])]
    config = experiment_config(*map("=".join, turn), *needed)
    assert set(config.task.objectives) <= set(OBJECTIVES.names())
    assert config.dataset.name in CORPORA.names()
    assert config.masking.strategy in STRATEGIES.names()
    # An option is called what it selects: who reads `task.name` in a summary can write `task=`.
    named = {"task", "dataset", "tokenizer", "model", "scheduler", "tracker"}
    for group, option in turn:
        if group in named and option != "auto":
            assert getattr(config, group).name == option


def test_groups_of_the_schema_and_folders_of_conf_are_the_same() -> None:
    groups = {name for name, kind in get_type_hints(Config).items() if is_dataclass(kind)}
    folders = {path.name for path in conf_dir().iterdir() if path.is_dir()}
    # Hydra's own, overrides of all groups, and W&B's sweeps, which are no configuration at all.
    finetuning = {"finetune", "search"}
    assert groups == folders - finetuning - {"hydra", "experiment", "size", "wandb"}
    assert groups == {group for group, _ in OPTIONS}


def test_every_option_of_the_contract_is_there() -> None:
    promised = {
        "task": {"mlm", "nsp", "sop", "mlm_nsp"},
        "masking": {"bert"},
        "dataset": {
            *("pydoc", "stdlib", "wikitext2", "wikitext103", "wikipedia", "bookcorpus", "text"),
            *("hub", "synthetic"),
        },
        "tokenizer": {"wordpiece", "bpe", "unigram", "pretrained"},
        "model": {"tiny", "mini", "small", "medium", "base", "large", "pretrained"},
        "optimizer": {"adamw", "muon"},
        "scheduler": {"linear", "cosine", "constant"},
        "trainer": {"default"},
        "hardware": {"auto", "cpu", "gpu", "multi_gpu", "fsdp", "slurm"},
        "tracker": {"wandb", "tensorboard", "trackio", "none"},
        "evaluation": {"default"},
    }
    for group, options in promised.items():
        assert options <= {name for found, name in OPTIONS if found == group}, group


MISTAKES = {
    "trainer.epochz=3": r"trainer\.epochz: .*no such key.* 'trainer\.epochs'\?",
    "optimiser.lr=3": r"optimiser\.lr: .*no such key.* 'optimizer\.lr'\?",
    "taks=nsp": r"taks: .*no such key.* 'task",
    "task=nspp": r"task=nspp: .*\bmlm, .*nsp.* 'nsp'\?",
    "masking=brt": r"masking=brt: .*bert.* 'bert'\?",
    "scheduler=step": r"scheduler=step: .*constant, cosine, linear",
    "+trainer.bogus=1": r"trainer\.bogus: no such key",
    "+bogus=1": r"bogus: no such key",
    "~trainer.epochs": r"^trainer\.epochs: has no value; set one\.$",
    "trainer.epochs=???": r"^trainer\.epochs: has no value; set one\.$",
    "tracker.tags=['???']": r"^tracker\.tags\[0\]: has no value; set one\.$",
    "name='a-${hydra:job.num}'": r"^name: \$\{hydra:\.\.\.\} has no value before a sweep's jobs",
    "trainer.epochs=ten": r"^trainer\.epochs=ten: must be a number\.$",
    "trainer.batch_size=1.5": r"^trainer\.batch_size=1\.5: must be an integer\.$",
    "trainer.batch_size=-1": r"trainer\.batch_size=-1: must be at least 1",
    "trainer.max_bad_steps=0": r"trainer\.max_bad_steps=0: must be at least 1",
    "trainer.keep_checkpoints=0": r"trainer\.keep_checkpoints=0: must be at least 1",
    "trainer.max_time=5 parsecs": r"^trainer\.max_time=5 parsecs: must be a number of minutes\.$",
    "trainer.save_every=10h": r"trainer\.save_every=10h: must be a number of steps, minutes",
    "trainer.epochs=null": r"trainer: .*max_time.* null",
    "trainer.epochs=-1": r"trainer\.epochs=-1\.0: must be above 0",
    "trainer.epochs=inf": r"trainer\.epochs=inf",
    "model.hidden_size=null": r"^model\.hidden_size=null: must be a value, not null\.$",
    "tokenizer.lowercase=null": r"^tokenizer\.lowercase=null: must be true or false\.$",
    "model.hidden_size=129": r"model\.hidden_size=129: must be divisible .*attention_heads=2",
    "model.num_attention_heads=0": r"model\.num_attention_heads=0: must be between 1 and 1,048,576",
    "model.dropout=1": r"model\.dropout=1\.0: .*below 1",
    "model=pretrained": r"model\.pretrained is not set",
    "tokenizer=pretrained": r"tokenizer\.path is not set",
    "tokenizer.vocab_size=3": r"tokenizer\.vocab_size=3: must be between",
    "masking.span_p=0.3": r"masking\.span_p: no such key\. Did you mean 'masking\.span\.p'\?",
    "masking.prob=1.5": r"masking\.prob=1\.5: must be a number above 0 and at most 1",
    "masking.prob=nan": r"masking\.prob=nan: must be a number above 0",
    "masking.prob=40%": r"^masking\.prob=40%: must be a number above 0",
    "masking.replace.mask=0.9": r"masking\.replace: .*1\.1.*add up to 1",
    "masking.replace.mask=-0.1": r"masking\.replace\.mask=-0\.1: must be between 0 and 1",
    "masking.replace=null": r"masking\.replace",
    "task.max_length=1000": r"task\.max_length=1000: .*max_position_embeddings=512",
    "task.max_length=2": r"task\.max_length=2: must be at least 8",
    "task.next_prob=1": r"task\.next_prob=1\.0: must be between 0 and 1",
    "task.sentences=sentence": r"task\.sentences=sentence: .*sentencex, period.* 'sentencex'\?",
    "hardware.precision=bf17": r"hardware\.precision=bf17: .*'bf16'\?",
    "hardware.num_processes=0": r"hardware\.num_processes=0: must be at least 1, or null",
    "hardware.threads=0": r"hardware\.threads=0: must be at least 1",
    "seed=-1": r"seed=-1: must be between 0 and",
    "seed=abc": r"^seed=abc: must be an integer\.$",
    "seed=1,2": r"seed=1,2: several values are a sweep, with -m; a list is written \[a,b\]",
    "epochs=10": r"epochs: no such key\. Did you mean 'trainer\.epochs'\?",
    "+lr=1": r"lr: no such key\. Did you mean 'optimizer\.lr'\?",
    "optimizer.betas=[0.9]": r"optimizer\.betas=\[0\.9\]: must be two numbers",
    "optimizer.betas=0.9": r"optimizer\.betas=\[0\.9\]: must be two numbers",
    "optimizer.lr=nan": r"optimizer\.lr=nan: must be above 0",
    "scheduler.warmup=1": r"scheduler\.warmup=1\.0: .*below 1",
    "dataset.format=txt": r"dataset\.format=txt: must be one of auto, plain",
    "dataset.max_documents=1": r"dataset\.max_documents=1: must be at least 2",
    "evaluation.mask_probs=[]": r"evaluation\.mask_probs=\[\]",
    "evaluation.mask_probs=[0.15,0.15]": r"evaluation\.mask_probs=.*different",
    # Both would be eval/loss@0.15.
    "evaluation.mask_probs=[0.15,0.15000001]": r"evaluation\.mask_probs=.*different",
    "tracker.mode=on": r"tracker\.mode=on: must be one of auto, online",
    "trainer.epochs=[1": r"\[1",
    "tokenizer.path=${modle.pretrained}": r"modle\.pretrained",
    "trainer.max_steps=1.5": r"^trainer\.max_steps=1\.5: must be an integer\.$",
    "evaluation.mask_probs=[x]": r"^evaluation\.mask_probs\[0\]=x: must be a number\.$",
    "masking.dynamic=maybe": r"^masking\.dynamic=maybe: must be true or false\.$",
}


@pytest.mark.parametrize("override", MISTAKES)
def test_a_mistake_is_one_line_that_names_the_key(
    experiment_config: Callable[..., Config], override: str
) -> None:
    with pytest.raises((UserError, HydraException, OmegaConfBaseException)) as caught:
        experiment_config(override)
    error = caught.value
    message = str(error) if isinstance(error, UserError) else explain(error)
    assert "\n" not in message
    assert re.search(MISTAKES[override], message), message


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("trainer.epochs=ten", "trainer.epochs"),
        ("masking.prob=1.5", "masking.prob=1.5"),
        ("masking.strategy=tokens", "Did you mean 'token'?"),
        ("tokenizer.path=${modle.pretrained}", "modle.pretrained"),
        ("trainer.epochs=[1", "[1"),
    ],
)
def test_the_command_refuses_a_mistake_before_it_touches_data(
    command: Callable[..., Any], override: str, named: str
) -> None:
    done = command(override, "dataset=synthetic", "tracker=none")
    assert done.code == 1
    assert len(done.lines) == 1, done.lines
    assert done.lines[0].startswith("error: ")
    assert named in done.lines[0]
    assert not done.cache.exists()


def test_keys_that_would_be_added_to_others_say_how_to_replace_them(
    experiment_config: Callable[..., Config],
) -> None:
    beta = "masking.prob={distribution: beta, alpha: 2, beta: 5}"
    with pytest.raises(HydraException) as caught:
        experiment_config("task=diffusion", beta)
    advice = explain(caught.value)
    assert advice.startswith("masking.prob: has other keys; to replace them all, write")
    replaced = experiment_config("task=diffusion", *re.findall(r"'(~.*?)'", advice), f"+{beta}")
    assert str(replaced.masking.drawn) == "beta2-5"


@pytest.mark.parametrize("override", ["trainer.epochz=3", "trainer.epochs=ten"])
def test_full_error_shows_the_traceback(command: Callable[..., Any], override: str) -> None:
    done = command(override, HYDRA_FULL_ERROR="1")
    assert done.code == 1
    assert "Traceback (most recent call last)" in done.output + done.errors


COMMANDS = {
    "bertexp": ("config", Config),
    "bertexp.finetune": ("finetune", FinetuneConfig),
    "bertexp.inspect": ("inspect", InspectConfig),
    "bertexp.evaluate": ("evaluate", EvaluateConfig),
    "bertexp.bench": ("bench", BenchConfig),
}


@pytest.mark.parametrize("module", COMMANDS)
def test_help_explains_every_key(module: str) -> None:
    name, schema = COMMANDS[module]
    lines = help_text(name, ["--help"], schema.ignores).splitlines()
    assert max(map(len, lines)) <= 80
    above: dict[str, str] = {}
    parents: list[str] = []
    for before, line in pairwise(lines):
        if match := re.match(r"( *)(\w+):", line):
            parents = [*parents[: len(match[1]) // 2], match[2]]
            above[".".join(parents)] = before.strip()
    read = [key for key in keys(schema) if not is_below(key, *schema.ignores)]
    # A group's option is its name.
    wanted = {key for key in read if not re.fullmatch(r"\w+\.name", key)}
    assert wanted <= above.keys()
    assert {key for key in wanted if not above[key].startswith("# ")} == set()


def test_help_names_every_option_and_begins_with_the_commands_own_keys() -> None:
    text = help_text("config", ["--help"], ())
    for group, option in OPTIONS:
        (line,) = re.findall(rf"^{group}: (.*(?:\n  .*)*)$", text, re.MULTILINE)
        assert option in re.split(r",\s+", line)
    own = help_text("inspect", ["--help"], InspectConfig.ignores)
    assert own.index("\nwhat:") < own.index("\nseed:") < own.index("\ntask:\n")
    assert "architecture, tokens, hidden" in own
    assert "\ntrainer:" not in own, "nothing that it does not read"


@pytest.mark.parametrize("module", COMMANDS)
def test_help_suggests_only_what_the_command_has(module: str) -> None:
    name, schema = COMMANDS[module]
    text = help_text(name, ["--help"], schema.ignores)
    groups = set(re.findall(r"^(\w+): \w", text, re.MULTILINE))
    assert set(re.findall(r"\+(\w+)=option", text)) == groups & {"experiment", "size", "search"}
    (example,) = re.findall(r"--help (\w+)$", text, re.MULTILINE)
    assert help_text(name, ["--help", example], schema.ignores)


def test_help_explains_a_value_by_the_file_that_sets_it() -> None:
    text = help_text("finetune", ["--help", "trainer"], FinetuneConfig.ignores)
    assert "  # passes over the training examples\n  epochs: 5\n" in text


def test_help_for_one_group_or_key_has_all_its_comments(command: Callable[..., Any]) -> None:
    done = command("--help", "masking", "masking=span")
    assert done.code == 0
    assert re.search(r"^masking=span +SpanBERT's spans", done.output, re.MULTILINE)
    assert (
        "  # Lower: some of the predicted ones stay as they were. Higher: others" in done.output
    ), "the whole comment"
    assert "\n  strategy: span\n" in done.output
    assert "\ntask:" not in done.output
    assert "--help masking" in command("--help").output
    done = command("what", "--help", module="bertexp.inspect")
    assert "embeddings.\nwhat:\n- masking" in done.output
    assert "experiment=mask_rate" in command("--help", "experiment").output
    assert command("--help", "masking.replace.mask").output.splitlines() == [
        "masking:",
        "  replace:",
        "    # [MASK]",
        "    mask: 0.8",
    ]
    done = command("--help", "maskin")
    assert (done.code, len(done.lines)) == (1, 1)
    assert "--help=maskin: must be one of" in done.lines[0]
    assert "Did you mean 'masking'?" in done.lines[0]


# Reads by these do not count: they check a value or show it, and do nothing with it. The mask rate
# over a run is its configuration's own.
ONLY_LOOKING = {"config.py", "report.py"}
DOES = {"rate", "drawn", "points", "strategies", "replacements", "measured"}


@functools.cache
def uses(file: str, function: str) -> bool:
    """Whether what a function of a file reads is used."""
    package = str(Path(sys.modules["bertexp.config"].__file__ or "").parent)
    return file.startswith(package) and (Path(file).name not in ONLY_LOOKING or function in DOES)


def watched(monkeypatch: pytest.MonkeyPatch, schema: type[RunConfig]) -> set[str]:
    """Return all keys of a schema; the package's reading a value of one takes it out."""
    left = set(keys(schema))

    def watch(kind: type, prefix: str) -> None:
        hints = get_type_hints(kind)
        plain = kind.__getattribute__

        def read(instance: object, name: str) -> object:
            if name in hints:
                code = sys._getframe(1).f_code
                if uses(code.co_filename, code.co_name):
                    left.discard(prefix + name)
            return plain(instance, name)

        monkeypatch.setattr(kind, "__getattribute__", read)
        for name, hint in hints.items():
            if is_dataclass(hint):
                watch(hint, f"{prefix}{name}.")

    watch(with_own_keys(schema), "")
    return left


@pytest.mark.slow
def test_no_key_exists_that_nothing_reads(
    experiment_config: Callable[..., Config],
    empty_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from bertexp.data.corpora import CORPORA
    from bertexp.experiment.invocation import Invocation
    from bertexp.experiment.main import run_experiment
    from bertexp.experiment.prepare import prepare_data
    from bertexp.experiment.resuming import Resume
    from bertexp.signals import Signals

    unread = watched(monkeypatch, Config)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    texts = [f"The cat number {n} sat. It saw {n} dogs! They ran off." for n in range(40)]
    (tmp_path / "notes.txt").write_text("\n\n".join(texts))
    (tmp_path / "hub").mkdir()
    pq.write_table(pa.table({"text": texts}), tmp_path / "hub" / "train.parquet")
    small = (
        *("model.hidden_size=16", "model.intermediate_size=16", "tokenizer.vocab_size=128"),
        "evaluation.probes=[]",
        *("trainer.max_steps=2", "evaluation.max_examples=8", "hardware.threads=1"),
    )

    def run(folder: str, *overrides: str) -> None:
        (tmp_path / folder).mkdir()
        config = experiment_config(*small, *overrides)
        resume = Resume(OmegaConf.create())
        invocation = Invocation(tmp_path / folder, resume, Signals(), None)
        run_experiment(config, {"seed": 0}, invocation)

    synthetic = ("dataset=synthetic", "dataset.synthetic.documents=20")
    text = ("dataset=text", "dataset.files=[notes.txt]")
    run("mlm", *synthetic, "tracker.mode=offline", "evaluation.probes=[length]")
    run("nsp", *text, "task=nsp", "tracker=none")
    run("joint", *text, "task=mlm_nsp", "tracker=none", "optimizer=muon")
    for task in ("diffusion", "mntp", "rtd", "mae_lm", "token_dropping"):
        run(task, *synthetic, f"task={task}", "tracker=none", "model.num_hidden_layers=4")
    for strategy in ("span", "ngram", "pmi", "frequency", "adaptive"):
        run(strategy, *synthetic, "tracker=none", "masking=decay", f"masking.strategy={strategy}",
            "masking.schedule.name=step", "masking.pmi.min_count=3")  # fmt: skip
    run("on", *text, "tracker=none", "model=pretrained", "model.pretrained=mlm/model")
    prepare_data(experiment_config(*small, "dataset=wikipedia", "dataset.hub.path=hub",
                                   "dataset.hub.config=null"))  # fmt: skip
    CORPORA["pydoc"](experiment_config("dataset=pydoc").dataset)
    (tmp_path / "rows.jsonl").write_text('{"text": "One two."}\n{"text": "Two one."}')
    prepare_data(experiment_config(*small, "dataset=text", "dataset.files=[rows.jsonl]"))
    prepare_data(experiment_config(*small, *text, "dataset.streaming=true", "trainer.epochs=null"))
    # `resume` and `resume_force` are read before there is a run, see tests/test_resume.py;
    # `num_processes` before there are any, see tests/processes;
    # `plugins` are loaded before anything is composed;
    # `sweep` is read from what Hydra composed, for the folder and the group of a sweep's runs;
    # `keep` is what the other two shares leave of 1, which the check of their sum makes sure of.
    assert unread <= {
        *("sweep", "masking.replace.keep", "trainer.resume", "trainer.resume_force"),
        *("hardware.num_processes", "plugins"),
    }
    assert "${sweep}" in (conf_dir() / "config.yaml").read_text()


def finetuning(*overrides: str) -> FinetuneConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return parse(compose("finetune", overrides=["run=somewhere", *overrides]), FinetuneConfig)


@pytest.mark.parametrize("option", [*GLUE, "text"])
def test_every_labelled_task_composes(option: str) -> None:
    assert finetuning(f"finetune={option}").finetune.name == option
    assert (conf_dir() / "finetune" / f"{option}.yaml").exists()


def test_the_usual_search_is_over_rates_and_seeds() -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = compose("finetune", overrides=["+search=usual"], return_hydra_config=True)
    assert composed.hydra.mode.name == "MULTIRUN"
    assert set(composed.hydra.sweeper.params) == {"optimizer.lr", "seed"}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("finetune.name=sst", r"finetune\.name=sst: must be one of cola, .*'sst2'\?"),
        ("finetune.kind=scores", r"finetune\.kind=scores: must be one of classification, regre"),
        ("finetune.metrics=[]", r"finetune\.metrics=\[\]: must be at least one metric"),
        ("finetune.metrics=[pearson]", r"finetune\.metrics \(of a classification\)=pearson: must"),
        ("finetune.max_length=7", r"finetune\.max_length=7: must be at least 8, or null"),
        ("finetune.patience=0", r"finetune\.patience=0: must be at least 1, or null"),
        ("finetune.path=glue", r"finetune\.path: is for GLUE's own folders; finetune=text takes"),
        ("finetune.lable=x", r"finetune\.lable: no such key.*'finetune\.label'"),
        ("run=null", r"RUN is missing: python -m bertexp\.finetune RUN"),
        ("task.max_length=3", r"task\.max_length: no such key"),
    ],
)
def test_a_mistake_in_fine_tuning_is_one_line(override: str, said: str) -> None:
    with pytest.raises((UserError, HydraException, OmegaConfBaseException)) as caught:
        finetuning(override)
    error = caught.value
    message = str(error) if isinstance(error, UserError) else explain(error, FinetuneConfig)
    assert re.search(said, message), message


def test_no_key_of_fine_tuning_exists_that_nothing_reads(
    trained: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from bertexp.experiment.invocation import Invocation
    from bertexp.experiment.main import run_experiment
    from bertexp.experiment.resuming import Resume
    from bertexp.finetune.sources import read_splits
    from bertexp.signals import Signals

    run = trained("mlm")
    unread = watched(monkeypatch, FinetuneConfig)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    rows = {"a": ["x y"] * 6, "b": ["y z"] * 6, "label": ["no", "yes"] * 3}
    (tmp_path / "hub").mkdir()
    for split in ("train", "validation", "test"):
        pq.write_table(pa.table(rows), tmp_path / "hub" / f"{split}.parquet")
    own = ("finetune.text=a", "finetune.text_b=b", "tracker=none", "hardware.threads=1")
    own += ("optimizer=muon",)
    files = (f"finetune.{s}=hub/{s}.parquet" for s in ("train", "validation", "test"))
    config = finetuning(*own, *files, f"run={run}", "trainer.max_steps=2", "optimizer.lr=1e-3")
    (tmp_path / "run").mkdir()
    invocation = Invocation(tmp_path / "run", Resume(OmegaConf.create()), Signals(), None)
    run_experiment(config, {"seed": 0}, invocation)
    read_splits(finetuning(*own, "finetune.hub=hub").finetune)
    with pytest.raises(UserError, match="there is no such folder"):
        read_splits(finetuning("finetune=rte", "finetune.path=nowhere").finetune)
    # As above; where nothing tracks, nothing of the tracker is read. The command itself reads
    # how many processes there are to be.
    assert {key for key in unread if not key.startswith("tracker.")} <= {
        *("sweep", "trainer.resume", "trainer.resume_force", "hardware.num_processes"),
        "plugins",
    }
