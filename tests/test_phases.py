"""Phases: shares of the budget with settings of their own, in one run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folders import rows, summary, untimed
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from safetensors.numpy import load_file

from bertexp.config import Config, conf_dir, parse
from bertexp.experiment.phases import described, expand, parts, phase_configs, shares, unread_in_all
from bertexp.training.budget import FIRST_STEP, Budget, Start
from bertexp.training.state import TrainState
from bertexp.unread import COMMAND_LINE, conditions
from bertexp.validation import UserError

TWO = "[{share: 0.9, masking.prob: 0.5}, {share: 0.1, masking.prob: 0.1}]"


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("config", overrides=["sweep=s", *overrides])
        expand(config, overrides, "config")
    return config


def each(*overrides: str) -> list[Config]:
    return phase_configs(parse(composed(*overrides)))


def test_a_phase_is_the_command_line_of_the_run_and_its_own() -> None:
    first, second = each("masking.prob=0.3", "phases=[{share: 0.5, masking: span}, {share: 0.5}]")
    alone = parse(composed("masking.prob=0.3", "masking=span"))
    assert first == alone, "an option of a group does not undo what the run sets"
    assert second == parse(composed("masking.prob=0.3"))
    # A task brings the masking that belongs to it; lengths are those of the run.
    phases = "phases=[{share: 0.4, task: diffusion}, {share: 0.6, task.pad_to: 64}]"
    first, second = each("task.max_length=64", phases)
    alone = parse(composed("task.max_length=64", "task=diffusion"))
    assert (first.task, first.masking) == (alone.task, alone.masking)
    assert (second.task.max_length, second.task.pad_to) == (64, 64)
    assert first.evaluation == second.evaluation, "all are evaluated as the last one"
    assert each("seed=3") == [parse(composed("seed=3"))]


def test_a_recorded_phase_needs_no_files() -> None:
    config = composed("phases=[{share: 0.4, task: nsp}, {share: 0.6, scheduler: cosine}]")
    again = OmegaConf.create(OmegaConf.to_yaml(config))
    expand(again, ["no", "overrides"], "no name")
    assert again == config
    assert parts(again)[0].task.objectives == ["nsp"]


WRONG = {
    "phases=3": "phases=3: must be a list of phases, such as [{share: 0.9, masking.prob: 0.5}",
    "phases=[{masking.prob: 0.5}]": "phase 1: has no share of the budget",
    "phases=[{shar: 0.5}]": "phase 1: shar: no such key. Did you mean 'share'?",
    "phases=[{share: 0}]": "phase 1: share=0: must be above 0 and at most 1",
    "phases=[{share: 0.5}, {share: 0.4}]": "phases: phase 1=0.5, phase 2=0.4 add up to 0.9; the",
    "phases=[{share: 1, masking.probb: 0.5}]": "masking.probb: no such key. Did you mean 'mask",
    "phases=[{share: 1, taks: nsp}]": "phase 1: taks: no such key. Did you mean 'task'?",
    "phases=[{share: 1, task: nps}]": "phase 1: task=nps: must be one of ",
    "phases=[{share: 1, dataset: synthetic}]": "dataset: cannot be set by a phase: all phases read",
    "phases=[{share: 1, tokenizer.vocab_size: 9}]": "all phases share one vocabulary",
    "phases=[{share: 1, model.hidden_size: 9}]": "all phases train one model",
    "phases=[{share: 1, family: roberta}]": "all phases train one model",
    "phases=[{share: 1, seed: 3}]": "seed: cannot be set by a phase: all phases are one run",
    "phases=[{share: 1, hardware.device: cpu}]": "hardware.device: cannot be set by a phase: all",
    "phases=[{share: 1, trainer.max_steps: 9}]": "may set trainer.batch_size and trainer.grad",
    "phases=[{share: 1, optimizer.weight_decay: 9}]": "a phase may set optimizer.lr",
    "phases=[{share: 1, evaluation.every: 9}]": "evaluated alike from beginning to end",
    "phases=[{share: 0.5}, {share: 0.5, masking.span.p: 0.3}]": "phase 2: masking.span.p is read",
}


@pytest.mark.parametrize("override", WRONG)
def test_a_phase_that_cannot_be_is_one_line(override: str) -> None:
    with pytest.raises(UserError) as error:
        composed(override)
    assert WRONG[override] in str(error.value)
    assert str(error.value).startswith("phases")


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ("task.max_length: 1024", "phases: phase 1: task.max_length=1024: the model has only"),
        ("masking.prob: 1.5", "phases: phase 1: masking.prob=1.5: must be"),
        ("optimizer.lr: -1", "phases: phase 1: optimizer.lr=-1"),
    ],
)
def test_values_are_checked_as_on_the_command_line(entry: str, line: str) -> None:
    with pytest.raises(UserError, match=line):
        each(f"phases=[{{share: 0.5, {entry}}}, {{share: 0.5}}]")


@pytest.mark.parametrize(
    ("phases", "written", "reason"),
    [
        ("[{share: 0.5, masking: span}, {share: 0.5}]", "masking.span.p", None),
        ("[{share: 0.5, masking.prob: 0.1}, {share: 0.5}]", "masking.span.p", "span only"),
        (TWO, "masking.prob", "is set by every phase; leave it out"),
        (TWO, "masking.strategy", None),
        ("[]", "masking.span.p", "span only"),
    ],
)
def test_a_setting_is_read_if_a_phase_reads_it(
    phases: str, written: str, reason: str | None
) -> None:
    found = unread_in_all({written: COMMAND_LINE}, composed(f"phases={phases}"), conditions(Config))
    assert reason in found[written] if reason else not found


@pytest.mark.parametrize(
    ("phases", "words"),
    [
        (TWO, "90% prob 0.5, 10% prob 0.1"),
        ("[{share: 0.5, task: clm}, {share: 0.5}]", "50% clm, 50% mlm"),
        (
            "[{share: 0.9, task.max_length: 64, optimizer.lr: 0.01}, {share: 0.1}]",
            "90% max_length 64 lr 0.01, 10% max_length 128 lr null",
        ),
        ("[{share: 0.25, masking: {prob: 0.2}}, {share: 0.75}]", "25% prob 0.2, 75% prob 0.15"),
    ],
)
def test_phases_are_described_in_a_few_words(phases: str, words: str) -> None:
    config: Any = OmegaConf.to_container(composed(f"phases={phases}"), resolve=True)
    assert described(config["phases"], config) == words


TRAINER = parse(composed()).trainer


@settings(deadline=None)
@given(
    parts=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    epochs=st.floats(1, 20),
    per_epoch=st.integers(20, 300),
)
def test_phases_of_the_same_data_end_where_the_run_does(
    parts: list[int], epochs: float, per_epoch: int
) -> None:
    trainer = replace(TRAINER, epochs=epochs)
    whole = Budget.of(trainer, per_epoch).steps
    borders = [0.0, *(np.cumsum(parts)[:-1] / sum(parts)).tolist(), 1.0]
    state, seen = TrainState(), [0.0]
    for low, high in pairwise(borders):
        start = Start(step=state.step, epochs=state.step / per_epoch)
        budget = Budget.of(trainer, per_epoch, start=start, end=high)
        assert budget.position == state.step, "the order of the examples continues"
        while budget.fraction(state) < 1:
            share = budget.midway(state)
            assert 0 < share < 1
            seen.append(low + (high - low) * share)
            state.step += 1
    assert state.step == whole
    # One schedule over the whole run neither turns back nor jumps.
    assert max(np.diff([*seen, 1.0])) < 2.5 / whole + FIRST_STEP
    assert seen == sorted(seen)


@pytest.mark.parametrize("limit", ["tokens", "seconds"])
def test_a_phase_ends_at_its_share_of_tokens_or_time(limit: str) -> None:
    trainer = replace(TRAINER, epochs=None, max_tokens=1000, max_time=1000 / 60)
    trainer = replace(trainer, **{"max_time" if limit == "tokens" else "max_tokens": None})
    state = TrainState(step=7, **{limit: 310})
    # The phase before has gone 10 beyond its end.
    start = Start(step=7, **{limit: 310}, epochs=0.7)
    budget = Budget.of(trainer, 10, start=start, end=0.5)
    assert budget.fraction(state) == 0
    for spent, share in ((405, 0.5), (500, 1.0)):
        then = replace(state, step=12, **{limit: spent})
        assert budget.fraction(then) == pytest.approx(share)
    assert budget.expected_steps(state, 19.5, 19.5) == 7 + 10
    assert Budget.of(trainer, 10, start=start, end=0.3).fraction(state) == 1, "it has no step left"


def test_shares_are_exact_at_the_ends() -> None:
    phases = f"phases=[{', '.join(['{share: 0.1}'] * 10)}]"
    found = shares(parse(composed(phases)))
    assert (found[0][0], found[-1][1]) == (0.0, 1.0)
    assert all(before[1] == after[0] for before, after in pairwise(found))


SMALL = (
    *("dataset=synthetic", "dataset.synthetic.documents=60", "tokenizer.vocab_size=256"),
    *("model.hidden_size=16", "model.intermediate_size=16", "model.dropout=0.1"),
    *("trainer.epochs=null", "trainer.batch_size=4", "trainer.log_every=5", "hardware.threads=1"),
    *("evaluation.probes=[]", "evaluation.every=10", "evaluation.max_examples=16"),
    *("evaluation.pseudo_perplexity=2", "tracker=none", "hardware=cpu", "hardware.precision=fp32"),
)
PHASES = (
    "phases=[{share: 0.5, task: nsp, trainer.batch_size: 8, scheduler: cosine},"
    "{share: 0.25, masking.prob: 0.4, task.max_length: 64}, {share: 0.25, optimizer.lr: 0.003}]"
)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("phases")


@pytest.fixture(scope="module")
def train(command: Callable[..., Any], work: Path) -> Callable[..., Path]:
    """Return a function that trains into a folder of a name, and returns it."""

    def trained(name: str, *overrides: str) -> Path:
        run = work / name
        done = command(*SMALL, *overrides, f"hydra.run.dir={run}", folder=work)
        assert done.code == 0, done.output + done.errors
        (run / "output.txt").write_text(done.output, encoding="utf-8")
        return run

    return trained


@pytest.fixture(scope="module")
def untouched(train: Callable[..., Path]) -> Path:
    """A run of three phases, with a checkpoint every four steps."""
    checkpoints = ("trainer.save_every=4", "trainer.keep_checkpoints=99")
    return train("untouched", PHASES, "trainer.max_steps=24", *checkpoints)


def test_each_phase_is_as_configured_in_one_record(untouched: Path) -> None:
    lines = [line for line in rows(untouched) if "train/loss" in line]
    # Every phase ends with a line of its own.
    assert [(line["step"], line["train/phase"]) for line in lines] == [
        *((5, 1), (10, 1), (12, 1), (15, 2), (18, 2), (20, 3), (24, 3))
    ]
    assert ["train/mask_prob" in line for line in lines] == [False] * 3 + [True] * 4
    rates = [line["train/mask_prob"] for line in lines[3:]]
    assert rates == pytest.approx([0.4, 0.4, 0.15, 0.15])
    evaluated = [line for line in rows(untouched) if "eval/loss" in line]
    assert [line["step"] for line in evaluated] == [0, 10, 12, 18, 20, 24], "borders too"
    # The first has a schedule of its own, and is at its end; the others follow that of the run.
    rates = [line["train/learning_rate"] for line in lines]
    assert rates[2] < 0.05 * rates[1]
    assert rates[4] / 2.5e-3 == pytest.approx((1 - 17.5 / 24) / 0.9)
    assert rates[5] / 3e-3 == pytest.approx((1 - 19.5 / 24) / 0.9)
    found = summary(untouched)
    assert found["budget"]["step"] == 24
    assert found["budget"]["examples"] == 12 * 8 + 12 * 4
    assert [phase["share"] for phase in found["phases"]] == [0.5, 0.25, 0.25]
    assert [phase["task"].split(":")[0] for phase in found["phases"]] == ["nsp", "mlm", "mlm"]
    assert [phase["masking"]["requested"] for phase in found["phases"][1:]] == [0.4, 0.15]
    assert set(found["fingerprints"]["bank"]) >= {"mlm"} and "eval/nsp_loss" not in evaluated[0]
    epochs = [line["train/epoch"] for line in lines]
    assert epochs == sorted(epochs) and epochs[-1] == found["epoch"]


def test_the_exported_model_is_that_of_the_last_phase(untouched: Path) -> None:
    def saved_as(folder: str) -> list[str]:
        config: Any = json.loads((untouched / folder / "config.json").read_text())
        return list(config["architectures"])

    assert saved_as("checkpoints/step-24") == ["BertForPreTraining"]
    assert saved_as("model") == ["BertForMaskedLM"]
    whole, kept = (weights(untouched / each) for each in ("checkpoints/step-24", "model"))
    assert {"cls.seq_relationship.weight"} <= whole.keys() - kept.keys()
    assert all(np.array_equal(whole[name], kept[name]) for name in kept)


@pytest.mark.parametrize("step", [12, 16])
def test_resumed_in_a_phase_or_at_a_border_it_is_the_same_run(
    step: int, untouched: Path, command: Callable[..., Any], work: Path
) -> None:
    run = work / f"resumed-{step}"
    shutil.copytree(untouched, run, ignore=shutil.ignore_patterns("model"))
    for folder in run.glob("checkpoints/step-*"):
        if int(folder.name.partition("-")[2]) > step:
            shutil.rmtree(folder)
    (run / "summary.json").write_text(json.dumps(summary(run) | {"status": "interrupted"}))
    done = command(f"trainer.resume={run}", folder=work)
    assert done.code == 0, done.output + done.errors
    assert untimed(run) == untimed(untouched)
    found, expected = (weights(each / "checkpoints" / "step-24") for each in (run, untouched))
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_phases_that_differ_in_nothing_are_a_run_without(train: Callable[..., Path]) -> None:
    plain = ("trainer.max_steps=15", "scheduler=constant", "scheduler.warmup=0")
    alone = train("alone", *plain)
    phases = train("equal", *plain, "phases=[{share: 0.4}, {share: 0.6}]")
    found, expected = weights(phases / "model"), weights(alone / "model")
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert summary(phases)["fingerprints"] == summary(alone)["fingerprints"]
    assert summary(phases)["budget"]["tokens"] == summary(alone)["budget"]["tokens"]


def test_a_longer_budget_is_refused(untouched: Path, command: Callable[..., Any]) -> None:
    done = command(f"trainer.resume={untouched}", "trainer.max_steps=48", folder=untouched)
    assert done.code == 1
    assert "trainer.max_steps=48 (was 24)" in done.output


def test_phases_that_train_one_module_build_it_alike(
    command: Callable[..., Any], work: Path
) -> None:
    phases = "phases=[{share: 0.5, task.rtd.generator: 0.5}, {share: 0.5}]"
    small = [each for each in SMALL if "perplexity" not in each]
    done = command(*small, "trainer.max_steps=9", "task=rtd", phases, folder=work)
    assert done.code == 1
    assert "error: phases: task.rtd: must be the same in all phases with task=rtd" in done.output


def test_a_phase_without_a_step_is_refused(command: Callable[..., Any], work: Path) -> None:
    phases = ("trainer.max_steps=20", "phases=[{share: 0.98}, {share: 0.02}]")
    done = command(*SMALL, *phases, folder=work)
    assert done.code == 1
    assert "error: phases: phase 2 has no step, as its share of the budget is less" in done.output


def weights(folder: Path) -> dict[str, np.ndarray]:
    return dict(load_file(folder / "model.safetensors"))
