"""What somebody wrote and a run does not read is an error that says what would read it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from bertexp.config import Config, conf_dir, keys
from bertexp.finetune.config import FinetuneConfig
from bertexp.sweeps.checks import refuse_mistakes
from bertexp.sweeps.points import grid
from bertexp.unread import refuse_unread, written
from bertexp.validation import UserError

ROOT = Path(__file__).parents[1]
SCHEMAS = (Config, FinetuneConfig)
KEYS = [*dict.fromkeys(key for schema in SCHEMAS for key in keys(schema))]
PAIRS = "task=nsp or task=sop"
# Of the keys that segment pairs without a loss of their own read too.
ALL_PAIRS = "task=nsp, task=sop or task.format=segment_pairs"


def composed(*overrides: str, name: str = "config") -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose(name, overrides=list(overrides), return_hydra_config=True)


def refuse(*overrides: str, name: str = "config") -> None:
    config = composed(*overrides, name=name)
    refuse_unread(written(config.hydra), config, FinetuneConfig if name == "finetune" else Config)


PASSED_OVER = {
    "dataset.files=[my.txt]": "dataset=text only, and this run has dataset=pydoc: add dataset=text",
    "dataset=wikitext2 dataset.packages=[numpy]": "dataset=pydoc or dataset=stdlib only",
    "dataset=text dataset.hub.path=x": "dataset=wikipedia",
    "dataset=text dataset.synthetic.words=8": "dataset=synthetic only",
    "dataset=synthetic dataset.column=body": "dataset=text",
    "dataset.shuffle_buffer=30": "dataset.streaming=true only",
    "dataset=wikitext2 dataset.validation_fraction=0.2": "dataset.hub.validation=null only",
    "tokenizer.path=vocab.txt": "tokenizer=pretrained only",
    "tokenizer=pretrained tokenizer.path=x tokenizer.vocab_size=300": "tokenizer=bpe or",
    "masking.span.p=0.3": "masking.strategy=span only",
    "masking.ngram.max=2": "masking.strategy=ngram only",
    "masking.pmi.share=0.2": "masking.strategy=pmi only",
    "masking.frequency.exponent=1": "masking.strategy=frequency only",
    "masking.schedule.at=0.3": "masking.schedule.name=step only",
    "masking=mask40 masking.replace.special=true": "where masking.replace.random is set",
    "task=nsp masking.prob=0.4": "task=mlm",
    "task=nsp masking=span": "task=mlm",
    "task=sop evaluation.mask_probs=[0.3]": "task=mlm",
    "task.mntp.causal_share=0.5": "add task=mntp, or leave task.mntp.causal_share out",
    "task.negatives=swap": f"{ALL_PAIRS} only, and this run has task.objectives=[mlm]: choose one",
    "task.negatives={swap:0.5,other_document:0.5}": ALL_PAIRS,
    "task.format=packed task.sentences=period": "task.format=doc_sentences",
    "task.format=doc_sentences task.attention=document": "=full_sentences or task.format=packed",
    "evaluation.negatives=[swap]": PAIRS,
    "task=nsp task.short_prob=0.3": "task.segments=fill only",
    "evaluation.probes=[] evaluation.probe_layer=1": "where evaluation.probes is set",
    "tracker=tensorboard tracker.tags=[a]": "tracker=wandb only",
    "model.resize=true": "where model.pretrained is set",
}


@pytest.mark.parametrize("line", PASSED_OVER)
def test_what_is_written_and_not_read_is_an_error_that_names_what_would_read_it(line: str) -> None:
    with pytest.raises(UserError) as caught:
        refuse(*line.split())
    key = line.split()[-1].partition("=")[0]
    assert re.match(rf"{re.escape(key)}[\w.]* is read (by|only) ", str(caught.value))
    assert PASSED_OVER[line] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("written", ["family=roberta", "family.name=esm", "model.dropout=0.1"])
def test_what_a_checkpoint_brings_is_left_out_or_the_checkpoint_is(written: str) -> None:
    key = written.partition("=")[0]
    with pytest.raises(UserError) as caught:
        refuse("model=pretrained", "model.pretrained=/x", written)
    assert str(caught.value) == (
        f"{written}: a checkpoint brings its own; leave {key} out, or, to train from scratch, "
        "leave model.pretrained out and choose a size such as model=tiny."
    )
    refuse("model=pretrained", "model.pretrained=/x")
    refuse("model=tiny", written)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "task=nsp",
        "+size=smoke model.pretrained=/x task=nsp",  # a size is for any run
        "dataset.files=[] tokenizer.path=null masking.schedule.end=null",  # asks for nothing
        "masking=span masking.span.p=0.1",
        "masking.strategy=step masking.schedule.name=step masking.schedule.at=0.2",
        "task=nsp task.negatives={swap:0.5,other_document:0.5}",
        "task.format=segment_pairs task.segments=fill task.short_prob=0.2",
        "task.format=doc_sentences task.sentences=period",
        "task=diffusion task.format=packed task.attention=document",
        "dataset=wikipedia dataset.hub.config=20231101.ko",
        "model=bert_base_uncased model.name=mine",
        "+experiment=nsp_synthetic dataset=pydoc",  # the user's word against the file's
        "+experiment=notebook_nsp task=mlm",
    ],
)
def test_what_is_read_or_nobody_wrote_is_no_error(line: str) -> None:
    refuse(*line.split())


def test_the_name_of_a_sweep_is_for_a_sweep() -> None:
    with pytest.raises(UserError, match="sweep: names a sweep, and this is one run; add -m"):
        refuse("sweep=mine")


def test_fine_tuning_is_looked_at_too() -> None:
    refuse("run=x", "finetune=rte", "seed=1", name="finetune")
    with pytest.raises(UserError, match=r"hub_config is read only where finetune\.hub is set"):
        refuse("run=x", "finetune.hub_config=x", name="finetune")


def commands() -> Iterator[str]:
    """Every command of an experiment or a sweep that the documentation and ``conf/`` show."""
    pages = (ROOT / "docs").rglob("*.md")
    for path in [ROOT / "README.md", *pages, *conf_dir().rglob("*.yaml")]:
        text = re.sub(r"\\\n#?", " ", path.read_text(encoding="utf-8"))
        for line in re.findall(r"python -m bertexp ([^`\n#]*)", text):
            # Studies of that size are in test_studies.py.
            yield line.replace("+size=smoke", "").strip()


def test_the_commands_of_the_documentation_are_read_as_a_whole() -> None:
    for line in sorted({command.strip() for command in commands()}):
        # Every job of a study, tests/test_studies.py checks.
        if re.fullmatch(r"\+experiment=\w+", line):
            continue
        words = [word for word in shlex.split(line) if re.match(r"[+\w./]+=", word)]
        # What needs a plugin, tests/test_readme.py runs.
        if words and not re.search(r"group|\.\.\.|plugins=", line):
            # Seeds only make it take longer.
            check_sweep(*(word for word in words if not word.startswith("seed=")), "seed=0")


def check_sweep(*overrides: str) -> None:
    """Compose every job of what may be a sweep, as the sweep does, and check them all."""
    parser = OverridesParser.create()
    parsed = parser.parse_overrides(list(overrides))
    fixed = [str(each.input_line) for each in parsed if not each.is_sweep_override()]
    sweeper = composed(*fixed).hydra.sweeper
    swept = {key: f"{key}={values}" for key, values in (sweeper.params or {}).items()}
    named = {each.get_key_element(): str(each.input_line) for each in parsed}
    lines = [line for key, line in (swept | named).items() if line not in fixed]
    varied = {each.get_key_element(): each for each in parser.parse_overrides(lines)}
    jobs = grid(varied, [key for key in sweeper.together if key not in named])
    refuse_mistakes([composed(*fixed, *job) for job in jobs], KEYS, SCHEMAS, None)


SWEEPS = {
    "masking.span.p=0.1,0.2": "masking.span.p is read by masking.strategy=span only",
    "model.pretrained=/x model.dropout=0.0,0.5": "model.dropout=0.0: a checkpoint brings its",
    "model.pretrained=/x model=tiny,mini": "the same run: model=tiny and model=mini.",
    "masking.strategy=token,span masking.span.p=0.1,0.2": "the same run: masking.span.p=0.1 and "
    "masking.span.p=0.2. masking.span.p is read by masking.strategy=span only",
    "seed=0,0": "the same run: a value is listed twice",
    "sweep=a,b": "the same run: sweep=a and sweep=b.",
    "seed=0,1 dataset.files=[x]": "dataset.files is read by dataset=text only",
}


@pytest.mark.parametrize("line", SWEEPS)
def test_a_sweep_over_what_is_not_read_is_refused(line: str) -> None:
    with pytest.raises(UserError) as caught:
        check_sweep(*line.split())
    assert SWEEPS[line] in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "masking.strategy=token,span masking.span.p=0.3",  # one of the jobs reads it
        "task=mlm,nsp task.segments=fill masking.prob=0.2",
        "hardware.threads=1,2",
        "model=tiny,mini seed=0,1",
    ],
)
def test_a_sweep_of_which_some_jobs_read_a_setting_runs(line: str) -> None:
    check_sweep(*line.split())


def test_a_search_may_be_over_what_only_some_of_its_jobs_read() -> None:
    first = ["masking.strategy=token", "masking.span.p=0.3"]
    job = composed(*first)
    refuse_mistakes([job], KEYS, SCHEMAS, ["masking.strategy=token", "masking.span.p=0.3"])
    with pytest.raises(UserError, match=r"masking\.span\.p is read by masking\.strategy=span only"):
        refuse_mistakes([job], KEYS, SCHEMAS, ["masking.span.p=0.3"])


def test_files_of_the_users_own_are_looked_at(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    study = tmp_path / "conf" / "experiment" / "mine.yaml"
    study.write_text("# @package _global_\nmasking: {span: {p: 0.3}}\ntrainer: {max_steps: 1}\n")
    own = ("--config-dir=conf", "+experiment=mine", "dataset=synthetic", "tracker=none")
    done = command(*own, folder=tmp_path)
    assert done.code == 1
    assert done.lines == [
        "error: mine.yaml: masking.span.p is read by masking.strategy=span only, and this run has "
        "masking.strategy=token: add masking.strategy=span, or leave masking.span.p out."
    ]
    assert not done.cache.exists()
    assert not (tmp_path / "outputs").exists()
    done = command(*own, "-m", "seed=0,1", folder=tmp_path)
    assert done.code == 1
    assert done.lines[-1].startswith("error: mine.yaml: masking.span.p is read by masking.strategy")
    assert not done.cache.exists()


@pytest.mark.parametrize(
    ("module", "arguments", "said"),
    [
        ("evaluate", ("{run}", "trainer.max_steps=3"), "trainer.max_steps: python -m bertexp.ev"),
        (
            "evaluate",
            ("{run}", "evaluation.negatives=[swap]"),
            f"evaluation.negatives is read by {PAIRS}",
        ),
        (
            "inspect",
            ("run={run}", "model.dropout=0.1"),
            "model.dropout: comes from the saved model",
        ),
        (
            "inspect",
            ("optimizer.lr=1",),
            "optimizer.lr: python -m bertexp.inspect does not",
        ),
        ("inspect", ("layer=1",), "layer is read by what=attention only, and this run"),
        ("bench", ("trainer.max_steps=3",), "trainer.max_steps: python -m bertexp.bench does not"),
    ],
)
def test_other_commands_read_less(
    command: Callable[..., Any],
    trained: Callable[[str], Path],
    module: str,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    run = trained("mlm")
    done = command(*(each.format(run=run) for each in arguments), module=f"bertexp.{module}")
    assert done.code == 1
    assert len(done.lines) == 1
    assert done.lines[0].startswith(f"error: {said}")


def test_a_sweep_prints_which_keys_some_of_its_jobs_do_not_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    jobs = [composed("task.loss.z_loss=0.1", f"task={task}") for task in ("mlm", "rtd")]
    refuse_mistakes(jobs, KEYS, SCHEMAS, None)
    assert capsys.readouterr().out == "task.loss.z_loss: 1 of 2 jobs do not read it.\n"
