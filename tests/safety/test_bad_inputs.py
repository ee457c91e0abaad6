"""A mistake is one line, with exit code 1 and nothing left behind."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from forkserver import ForkServer
from safety import inputs

from bertexp.config import Config
from bertexp.experiment.pretraining import Pretraining
from bertexp.validation import UserError

NOBODY = 65534

BASE = (
    *("dataset=synthetic", "dataset.synthetic.documents=60", "tokenizer.vocab_size=256"),
    "evaluation.probes=[]",
    *("model.hidden_size=16", "model.intermediate_size=16", "evaluation.max_examples=8"),
    *("trainer.epochs=null", "trainer.max_steps=1", "hardware.threads=1", "tracker=none"),
)
# What is not read where an argument begins with one of these.
UNREAD = {
    "dataset=": "dataset.synthetic.",
    "tokenizer=": "tokenizer.vocab_size",
    "model=pretrained": "tokenizer.vocab_size",
    "model.pretrained=": "model.",
    "tracker.": "tracker=",
}


def base_for(*arguments: str) -> list[str]:
    """Return ``BASE`` and some arguments, without what these have no use for."""
    out = [below for group, below in UNREAD.items() if any(a.startswith(group) for a in arguments)]
    return [each for each in BASE if not each.startswith(tuple(out))] + [*arguments]


# In what follows {} is the folder of the inputs.
TEXTS = {
    "empty.txt": r"dataset\.files: '{}/empty\.txt' is empty\.",
    "nothing.txt": r"dataset\.files: there is no file '{}/nothing\.txt' \(looked in {}\)\. Did you",
    "two\\nlines": r"dataset\.files: there is no file '{}/two",
    "folder": r"dataset\.files: '{}/folder' is a folder; name its files, as in '{}/folder/\*\*/",
    "*.nope": r"dataset\.files: '{}/\*\.nope' matches no file with text",
    "blank.txt": r"dataset=text: the corpus has no text\.",
    "one.txt": r"dataset=text: the corpus has only one document, and training and validation need",
    "binary.txt": r"dataset\.files: '{}/binary\.txt' is not a text file: it holds zero bytes\.",
    "utf16.txt": r"dataset\.files: '{}/utf16\.txt' is not a text file: it holds zero bytes\.",
    "latin.txt": r"dataset\.files: '{}/latin\.txt' is not UTF-8 at byte \d+; convert it, or set",
    "cut.txt": r"dataset\.files: '{}/cut\.txt' is not UTF-8 at byte \d+; convert it, or set",
    "cut.gz": r"dataset\.files: '{}/cut\.gz' is damaged or cut off: Compressed file ended before",
    "junk.gz": r"dataset\.files: '{}/junk\.gz' is damaged or cut off: Error -3",
    "junk.bz2": r"dataset\.files: cannot read '{}/junk\.bz2': Invalid data stream\.",
    "cut.xz": r"dataset\.files: '{}/cut\.xz' is damaged or cut off: Compressed file ended before",
    "cut.jsonl": r"dataset\.files: '{}/cut\.jsonl', line 2 is not JSON: Unterminated string",
    "long.jsonl": r"dataset\.files: '{}/long\.jsonl', line 2 is not JSON: Unterminated string",
    "list.jsonl": r"dataset\.files: '{}/list\.jsonl', line 2 is not a JSON object",
    "other.jsonl": r"dataset\.column=text: '{}/other\.jsonl', line 2 has no such column; it has b",
    "number.jsonl": r"dataset\.column=text: '{}/number\.jsonl', line 2 has int there, not text\.",
    "digits.jsonl": r"dataset\.files: '{}/digits\.jsonl', line 2 cannot be read as JSON: Exceeds",
    "deep.jsonl": r"dataset\.files: '{}/deep\.jsonl', line 2 cannot be read as JSON: maximum recu",
    "half.jsonl": r"dataset\.files: '{}/half\.jsonl', line 2 has half a surrogate pair; repair",
    "numbers.parquet": r"dataset\.column=text: '{}/numbers\.parquet', row 1 has int there, not",
    "cut.parquet": r"dataset\.files: '{}/cut\.parquet' is not readable as Parquet: .*not a parquet",
    "junk.parquet": r"dataset\.files: '{}/junk\.parquet' is not readable as Parquet: ",
    "rows0.parquet": r"dataset=text: the corpus has no text\.",
    "nulls.parquet": r"dataset=text: the corpus has no text\.",
}
VOCABULARIES = {
    "nothing.txt": r"tokenizer\.path={}/nothing\.txt: no such file\.$",
    "nope.json": r"^tokenizer\.path={}/nope\.json: no such file\.$",
    "bert/config.json": r"^tokenizer\.path=\S+: config\.json cannot be read as a tokenizer: ",
    "plain-vocab.txt": r"tokenizer\.path={}/plain-vocab\.txt: no \[PAD\], .* among its 53 lines",
    "twice-vocab.txt": r"tokenizer\.path={}/twice-vocab\.txt: line 6 of its vocabulary: 'a' is r",
    "gap-vocab.txt": r"tokenizer\.path={}/gap-vocab\.txt: line 6 of its vocabulary: is empty",
    "empty-vocab.txt": r"tokenizer\.path={}/empty-vocab\.txt: no \[PAD\], .* among its 0 lines",
    "binary-vocab.txt": r"tokenizer\.path={}/binary-vocab\.txt: cannot be read .*invalid start by",
    "junk.json": r"tokenizer\.path={}/junk\.json: junk\.json cannot be read as a tokeni",
    "bpe.json": r"tokenizer\.path={}/bpe\.json: its settings name no cls_token, and its vocab",
    "a-run": r"tokenizer\.path={}/a-run: is a run's folder; write .*={}/a-run/model\.$",
    "folder": r"tokenizer\.path={}/folder: has no tokenizer \(no tokenizer\.json or vocab\.txt\);",
    "nowhere": r"tokenizer\.path={}/nowhere: no vocabulary file, no folder with a tokenizer",
    "remote-code": r"tokenizer\.path={}/remote-code: has no tokenizer \(no tokenizer\.json or voc",
}
REFUSES = r"transformers refuses it \("
CUT = r"model\.safetensors cannot be read"
CHECKPOINTS = {
    "nowhere": r"model\.pretrained={}/nowhere: no such folder\.$",
    "a-run": r"model\.pretrained={}/a-run: is a run's folder; write .*={}/a-run/model\.$",
    "folder": r"model\.pretrained={}/folder: the folder has no config\.json\.$",
    "bert-cut": rf"model\.pretrained={{}}/bert-cut: {CUT} \(.*incomplete metadata.*copy it a",
    "bert-head": rf"model\.pretrained={{}}/bert-head: {CUT} \(.*header too large",
    "bert-empty": rf"model\.pretrained={{}}/bert-empty: {CUT} \(.*header too small",
    "bert-junk": rf"model\.pretrained={{}}/bert-junk: {REFUSES}.*not a valid JSON file",
    "bert-list": rf"model\.pretrained={{}}/bert-list: {REFUSES}'list' object",
    "bert-words": rf"model\.pretrained={{}}/bert-words: {REFUSES}.*'hidden_size'",
    "bert-odd": rf"model\.pretrained={{}}/bert-odd: {REFUSES}.*not a multiple of",
    "bert-no-weights": r"model\.pretrained={}/bert-no-weights: has no model\.safetensors\.$",
    "bert-pickle": r"model\.pretrained={}/bert-pickle: its weights are pickled, and bertexp reads",
    "bert-wide": r"model\.pretrained={}/bert-wide: its weights do not fit its config\.json: bert\.",
    "gpt": r"model\.pretrained={}/gpt: is a gpt2 model; the families are bert, ",
    "remote-code": r"model\.pretrained={}/remote-code: is a own model; the families are bert, ",
}
HUB = "dataset=wikipedia dataset.hub.config=null dataset.hub.path="
# What preparing finds, as in the tables above.
PREPARED = {
    "dataset=text dataset.files=[{}/good.txt] dataset.format=parquet": r"not readable as Parquet",
    "dataset=text dataset.files=[{}/good.txt] dataset.format=jsonl": r"line 1 is not JSON: Expect",
    "dataset=text dataset.files=[{}/numbers.parquet] dataset.column=titel": (
        r"dataset\.column=titel: .* has no such column; it has text, title\. .*'title'\?"
    ),
    "dataset=text dataset.files=[{}/few.txt] task=nsp": r"task\.segments=sentence .* finds 0 pairs",
    "dataset=text dataset.files=[{}/few.txt] task=sop": r"task\.segments=fill .* finds 0 pairs",
    "dataset=text": r"dataset\.files=\[\]: name at least one file",
    "dataset=pydoc dataset.packages=[nosuch]": r"dataset\.packages: no package 'nosuch' is insta",
    "dataset=pydoc dataset.packages=[../..]": r"dataset\.packages: no package '\.\./\.\.' is inst",
    "dataset=hub": r"dataset\.hub\.path=null: dataset=hub needs a Hub name or folder",
    f"{HUB}{{}}/hub dataset.column=body": r"dataset\.column=body: '{}/hub' has no such column",
    f"{HUB}{{}}/hub dataset.hub.train=none": r'dataset\.hub.*cannot load .*Unknown split "none"',
    f"{HUB}{{}}/script": r"dataset\.hub.*cannot load .*scripts are no longer supported",
    f"{HUB}{{}}/script/script.py": r"dataset\.hub.*cannot load .*scripts are no longer supported",
    f"{HUB}{{}}/pickled": r"dataset\.hub.*cannot load .*No \(supported\) data files",
    f"{HUB}{{}}/folder": r"dataset\.hub.*cannot load .*doesn't contain any data files",
    "model=pretrained model.pretrained={}/bert task.max_length=65": (
        r"task\.max_length=65: the model has only 64 positions\."
    ),
    "model=pretrained model.pretrained={}/bert task.max_length=32": (
        r"^model\.pretrained={}/bert: has no tokenizer \(no tokenizer\.json or vocab\.txt\); "
        r"transformers' AutoTokenizer writes one there with save_pretrained\.$"
    ),
    "masking=pmi masking.pmi.min_count=1000000": r"masking\.strategy=pmi: no run of 2 to 5 words",
}
SETTINGS = {
    "dataset=wikitext2": (
        r"dataset\.hub\.path=Salesforce/wikitext: the Hugging Face Hub does not .*"
        r"dataset=pydoc.*dataset=text"
    ),
    "model=pretrained model.pretrained=no/such": (
        r"model\.pretrained=no/such: the Hugging Face Hub does not answer and .*"
        r"type model=tiny tokenizer=wordpiece \(from scratch\), or model\.pretrained=FOLDER"
    ),
    "tokenizer=pretrained tokenizer.path=no/such": (
        r"tokenizer\.path=no/such: the Hugging Face Hub does not answer and .*"
        r"type tokenizer=wordpiece \(trained on the corpus\), or tokenizer\.path=vocab\.txt"
    ),
    "model.hidden_size=1048576": (
        r"model\.hidden_size=1048576, model\.num_hidden_layers=2: must be less; the model needs "
        r"at least [\d,]+ GB, this machine has \d"
    ),
    "dataset=text dataset.files=[{}/empty.txt] tracker.mode=offline": r"'{}/empty\.txt' is empty\.",
    "hardware.precision=fp16": r"hardware\.precision=fp16: needs a GPU",
    "hardware.graphs=true": r"hardware\.graphs=true: is for NVIDIA and AMD GPUs, and this run",
    "hardware.compile=true": r"hardware\.compile=true: is for NVIDIA and AMD GPUs, and this run is",
    "hardware.compile=true hardware.sharded=true": r"hardware\.compile=true: not with hardware\.sh",
    "hardware=gpu": r"hardware\.device=gpu: torch finds no GPU",
    "tracker.mode=online": r"tracker\.mode=online: W&B has no API key\. Log in with `wandb login`",
    "tracker.project=a/b": r"tracker\.project=a/b: must be 1 to 128 characters",
    "sweep=../elsewhere": r"sweep=\.\./elsewhere: must be a folder's name: no slashes",
    "sweep=..": r"sweep=\.\.: must be a folder's name: no slashes",
    "-m sweep=../elsewhere seed=0,1": r"sweep=\.\./elsewhere: must be a folder's name: no slashes",
    "-m sweep=/tmp seed=0,1": r"sweep=/tmp: must be a folder's name: no slashes",
    "-m seed=0,1 trainer.epochz=2": r"trainer\.epochz: no such key\. Did you mean 'trainer\.epochs",
    "-m seed=0,1 trainer.resume={}/run-other": r"in a sweep use trainer\.resume=auto",
    "trainer.epochz=3": r"trainer\.epochz: no such key\. Did you mean 'trainer\.epochs'\?",
    "task=nspp": r"task=nspp: must be one of .* Did you mean 'nsp'\?",
    "family=eurobert": r"family=eurobert: has no file of its own; type family\.name=eurobert\.",
    "--epochs=3": r"--epochs=3: no such option; a setting is key=value, without dashes",
    "masking=null": r"masking=null: the group needs an option; see --help masking\.",
    "masking=0.4": r"masking=0\.4: the group needs an option; see --help masking\.",
    "name=${{oc.env:NOWHERE}}": r"name: .*'NOWHERE' not found",
    "name=${{eval:1+1}}": r"name: unsupported interpolation type eval\.",
    "trainer.resume={}/folder": r"trainer\.resume={}/folder: no run's folder",
    "hydra.run.dir={}/good.txt": r"hydra\.run\.dir: cannot write {}/good\.txt \(File exists\)\.",
    "hydra.run.dir={}/good.txt/x": r"hydra\.run\.dir: cannot write {}/good\.txt/x \(Not a direct",
    "hydra.run.dir=/proc/x": r"hydra\.run\.dir: cannot write /proc/x \(",
    f"hydra.run.dir={'x' * 300}": r"hydra\.run\.dir: cannot write x+ \(File name too long\)\.",
}
# These have a folder already, which stays as it is but for the log.
RUNS = {
    "run-junk": r"{}/run-junk/\.hydra/config\.yaml: cannot be read \(while parsing a flow node",
    "run-list": r"{}/run-list/\.hydra/config\.yaml: is no configuration\.",
    "run-code": r"{}/run-code/\.hydra/config\.yaml: cannot be read \(could not determine a const",
    "run-summary": r"{}/run-summary/summary\.json: is damaged; remove it",
}


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the inputs; nothing in it may be executed, whichever test reads it."""
    folder = tmp_path_factory.mktemp("inputs")
    inputs.make(folder)
    yield folder
    assert not (folder / "sprung").exists(), "code of an input was run"


# The inputs that commands read; all others are read in this process, which takes less time.
BY_COMMAND = {"nothing.txt", "two\\nlines", "blank.txt", "cut.gz", "twice-vocab.txt", "bert-cut"}


def inputs_and_arguments() -> Iterator[tuple[str, str, str]]:
    """Yield the name of each bad input, the pattern of its error, and arguments that cause it."""
    vocabulary = "tokenizer=pretrained tokenizer.path={}/"
    for tables, before in (
        (TEXTS, "dataset=text dataset.files=['{}/@']"),
        # The corpus, which does not exist either, is not looked at.
        (VOCABULARIES, f"dataset=text dataset.files=[nowhere] {vocabulary}@"),
        (
            CHECKPOINTS,
            "model=pretrained model.pretrained={}/@ task.max_length=32 " + vocabulary + "vocab.txt",
        ),
    ):
        for name, message in tables.items():
            yield name, message, before.replace("@", name)
    for arguments, message in PREPARED.items():
        yield arguments, message, arguments


def cases(*, by_command: bool) -> Iterator[Any]:
    for name, message, arguments in inputs_and_arguments():
        if (name in BY_COMMAND) == by_command:
            yield pytest.param(message, arguments, id=name)


@pytest.fixture
def refused(attempt: Callable[..., Any], root: Path, shared_cache: Path) -> Callable[..., None]:
    """Return a function that checks that a command is refused, with which error."""

    def check(pattern: str, *arguments: str, **environment: str) -> None:
        ended = attempt(*base_for(*arguments), **environment)
        assert ended.code == 1, ended.lines
        (error,) = [line for line in ended.lines if line.startswith("error: ")]
        assert [error] in [stream.splitlines()[-1:] for stream in (ended.output, ended.errors)]
        assert "Traceback" not in "\n".join(ended.lines)
        expected = pattern.replace("{}", re.escape(str(root)))
        assert re.search(expected, error.removeprefix("error: ")), error
        assert ended.left == []
        assert not [path for path in shared_cache.rglob(".*")], "half-built"

    return check


@pytest.mark.parametrize(("message", "arguments"), cases(by_command=False))
def test_a_bad_input_is_a_mistake(
    experiment_config: Callable[..., Config],
    root: Path,
    empty_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    message: str,
    arguments: str,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    given = arguments.replace("{}", str(root)).split(" ")
    with pytest.raises(UserError) as caught:
        Pretraining(experiment_config(*base_for(*given))).prepare(torch.device("cpu"))
    error = " ".join(str(caught.value).splitlines())
    assert re.search(message.replace("{}", re.escape(str(root))), error), error
    assert not [path for path in empty_cache.rglob(".*")], "half-built"


SETTING_CASES = (pytest.param(message, name, id=name) for name, message in SETTINGS.items())


@pytest.mark.parametrize(("message", "arguments"), [*cases(by_command=True), *SETTING_CASES])
def test_a_mistake_is_one_line(
    refused: Callable[..., None], root: Path, message: str, arguments: str
) -> None:
    given = [word.replace("{}", str(root)) for word in arguments.split(" ")]
    refused(message, *(word.replace("{{", "{").replace("}}", "}") for word in given))


@pytest.mark.parametrize("name", RUNS)
def test_runs_that_cannot_be_resumed(attempt: Callable[..., Any], root: Path, name: str) -> None:
    run = root / name
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    ended = attempt(f"trainer.resume={run}")
    (line,) = ended.lines
    assert ended.code == 1
    assert re.match("error: " + RUNS[name].replace("{}", re.escape(str(root))), line), line
    assert ended.left == []
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    new = {path.name for path in after.keys() - before.keys()}
    assert new <= {"bertexp.log", ".lock"}
    assert before.items() <= after.items()


@pytest.mark.parametrize("place", ["good.txt", "good.txt/below"])
def test_a_cache_that_is_no_folder(refused: Callable[..., None], root: Path, place: str) -> None:
    message = (
        rf"{{}}/{place}: the cache cannot be written \(Not a directory\); choose another folder"
    )
    refused(message, BERTEXP_CACHE=f"{root}/{place}")


def test_a_dataset_smaller_than_a_batch_is_trained_on(
    attempt: Callable[..., Any], root: Path
) -> None:
    ended = attempt(
        *base_for("dataset=text", f"dataset.files=[{root}/good.txt]"),
        "trainer.batch_size=9999999999",
    )
    assert ended.code == 0, ended.lines


def test_what_was_there_before_a_mistake_is_there_after_it(
    attempt: Callable[..., Any], tmp_path: Path
) -> None:
    notes = tmp_path / "run" / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")
    (tmp_path / "outputs" / "mine").mkdir(parents=True)
    for folder in ("run", "."):
        ended = attempt(*BASE, "sweep=..", f"hydra.run.dir={folder}", folder=tmp_path)
        assert ended.code == 1
        assert notes.read_text() == "mine"
    assert (tmp_path / "outputs" / "mine").is_dir()


BUG = """
from bertexp.cli import main
from bertexp.experiment import pretraining
def fail(config): raise KeyError("a bug")
pretraining.prepare_data = fail
main()
"""


def test_a_bug_keeps_its_traceback_and_its_folder(
    forkserver: ForkServer, clean_environment: dict[str, str], tmp_path: Path
) -> None:
    started = forkserver.start("-c", BUG, *BASE, folder=tmp_path, environment=clean_environment)
    assert started.end() == 1
    assert "Traceback" in started.output + started.errors
    (log,) = tmp_path.glob("outputs/*/*/bertexp.log")
    assert "KeyError: 'a bug'" in log.read_text()


@pytest.fixture
def guarded(root: Path) -> Iterator[Path]:
    """A folder that only root may write in, with a file that only root may read."""
    if os.geteuid() != 0:
        pytest.skip("only root can take rights from itself")
    # Outside pytest's own folders, which others may not enter.
    folder = Path(tempfile.mkdtemp(prefix="bertexp-guarded-"))
    folder.chmod(0o755)
    shutil.copy(root / "good.txt", folder / "secret.txt")
    (folder / "secret.txt").chmod(0o600)
    (folder / "work").mkdir()
    shutil.chown(folder / "work", NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hydra.run.dir={}/run"], "hydra.run.dir: cannot write {}/run (Permission denied)."),
        (
            ["dataset=text", "dataset.files=[{}/secret.txt]"],
            "dataset.files: cannot read '{}/secret.txt': Permission denied.",
        ),
        (
            ["tokenizer=pretrained", "tokenizer.path={}/secret.txt"],
            "tokenizer.path={}/secret.txt: cannot be read as a vocabulary: [Errno 13]",
        ),
        ([], "{}/cache: the cache cannot be written (Permission denied); choose another folder"),
    ],
)
def test_without_permission(
    attempt: Callable[..., Any], guarded: Path, overrides: list[str], message: str
) -> None:
    given = [override.format(guarded) for override in overrides]
    cache = guarded / ("cache" if not overrides else "work/cache")
    ended = attempt(
        *base_for(*given), folder=guarded / "work", user=NOBODY, BERTEXP_CACHE=str(cache)
    )
    assert ended.code == 1, ended.lines
    assert ended.lines[-1].startswith("error: " + message.format(guarded)), "\n".join(ended.lines)
    assert "Traceback" not in "\n".join(ended.lines)
    assert [name for name in ended.left if not name.startswith("cache")] == []
    assert {path.name for path in guarded.iterdir()} == {"secret.txt", "work"}
