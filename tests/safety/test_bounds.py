"""Every number of the configuration, at its bounds and beyond them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any, get_args, get_type_hints

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from bertexp.config import Config, conf_dir, parse
from bertexp.registry import Registry, with_own_keys
from bertexp.validation import UserError

NAN, INF = float("nan"), float("inf")
SHARE = ([0.0, 0.5, 1.0], [-1e-9, 1 + 1e-9, NAN, INF, -INF])
OPEN = ([1e-9, 0.5, 1 - 1e-9], [0.0, 1.0, -1e-9, NAN, INF])
BELOW_ONE = ([0.0, 1 - 1e-9], [-1e-9, 1.0, NAN, INF])
ABOVE_ZERO = ([1e-9, 1.0], [0.0, -1e-9, 1 + 1e-9, NAN, INF])
POSITIVE = ([1e-9, 1e9], [0.0, -1e-9, NAN, INF])
COUNT = ([1, 2, 10**12], [0, -1, -(10**12)])
SECONDS = ([None, *POSITIVE[0]], POSITIVE[1])
MAYBE = ([None, *COUNT[0]], COUNT[1])

# For every numeric key: what is allowed, what is not.
BOUNDS: dict[str, tuple[list[Any], list[Any]]] = {
    "seed": ([0, 2**32 - 1], [-1, 2**32]),
    "task.max_length": ([8, 9, 512], [7, 0, -1, 513]),
    "task.pad_to": ([None, 128, 512], [127, 0, -1, 513]),
    "task.short_prob": SHARE,
    "task.next_prob": OPEN,
    "task.loss.z_loss": ([0.0, 1e9], [-1e-9, NAN, INF]),
    "task.loss.label_smoothing": BELOW_ONE,
    "task.loss.frequency_exponent": ([0.0, 2.0], [-1e-9, 2 + 1e-9, NAN, INF]),
    "task.mntp.causal_share": SHARE,
    "task.rtd.generator": ABOVE_ZERO,
    "task.rtd.depth": ABOVE_ZERO,
    "task.rtd.temperature": POSITIVE,
    "task.rtd.weight": POSITIVE,
    "task.mae_lm.decoder_layers": ([None, 1, 100], [0, -1, 101]),
    "task.token_dropping.share": OPEN,
    "masking.prob": ([1e-9, 1.0], [0.0, -1e-9, 1 + 1e-9, NAN, INF]),
    "masking.corrupt_prob": ([None, *OPEN[0]], OPEN[1]),
    "masking.copies": MAYBE,
    "masking.span.p": OPEN,
    "masking.span.max": COUNT,
    "masking.ngram.max": COUNT,
    "masking.pmi.min_count": COUNT,
    "masking.pmi.share": ([1e-9, 1.0], [0.0, -1e-9, 1 + 1e-9, NAN]),
    "masking.adaptive.every": COUNT,
    "masking.frequency.exponent": ([0.0, 2.0], [-1e-9, 2 + 1e-9, NAN, INF]),
    "masking.schedule.end": ([None], [0.5]),
    "masking.schedule.at": OPEN,
    "dataset.validation_fraction": OPEN,
    "dataset.max_documents": ([None, 2, 10**12], [1, 0, -1]),
    "dataset.head_documents": ([2, 10**12], [1, 0, -1]),
    "dataset.shuffle_buffer": ([2, 10**12], [1, 0, -1]),
    "dataset.synthetic.documents": ([2, 10**12], [1, 0, -1]),
    "dataset.synthetic.topics": ([1, 2], [0, -1, 10**12]),
    "dataset.synthetic.words": ([4, 5], [3, 0, -1, 10**12]),
    "dataset.synthetic.concentration": POSITIVE,
    "tokenizer.vocab_size": ([64, 1_000_000], [63, 0, -1, 1_000_001]),
    "model.hidden_size": ([2, 4, 2**20], [0, -2, 3, 2**20 + 2, 10**12]),
    "model.num_hidden_layers": ([1, 10_000], [0, -1, 10_001]),
    "model.num_attention_heads": ([1, 2, 128], [0, -1, 129, 2**20 + 1]),
    "model.intermediate_size": ([1, 2**20], [0, -1, 2**20 + 1, 10**12]),
    "model.max_position_embeddings": ([128, 2**20], [127, 0, -1, 2**20 + 1]),
    "model.dropout": BELOW_ONE,
    "model.initializer_range": POSITIVE,
    "optimizer.lr": POSITIVE,
    "optimizer.eps": POSITIVE,
    "optimizer.momentum": BELOW_ONE,
    "optimizer.weight_decay": ([0.0, 1e9], [-1e-9, NAN, INF]),
    "scheduler.warmup": BELOW_ONE,
    "trainer.epochs": SECONDS,
    "trainer.max_steps": MAYBE,
    "trainer.max_tokens": MAYBE,
    "trainer.max_time": SECONDS,
    "trainer.batch_size": COUNT,
    "trainer.gradient_accumulation_steps": COUNT,
    "trainer.gradient_clip": SECONDS,
    "trainer.log_every": COUNT,
    "trainer.save_every": (
        [None, 1, 10**12, "1min", "0.5min"],
        [0, -1, "0min", "-1min", "min", "1h", "10 hours", "", "nanmin", "1.5"],
    ),
    "trainer.keep_checkpoints": COUNT,
    "trainer.max_bad_steps": COUNT,
    "hardware.num_workers": ([0, 1], [-1]),
    "hardware.num_processes": MAYBE,
    "hardware.threads": MAYBE,
    "evaluation.every": MAYBE,
    "evaluation.max_examples": MAYBE,
    "evaluation.pseudo_perplexity": ([None, 0, 1, "auto"], [-1, "all", 1.5]),
    "evaluation.probe_examples": ([100, 10**12], [99, 0, -1]),
    "evaluation.probe_layer": ([None, 0, 1], [-1]),
}
# Where the error names another key that it must fit.
NAMED = {
    "dataset.synthetic.topics": "dataset.synthetic.words",
    "model.num_attention_heads": "model.hidden_size",
    "model.max_position_embeddings": "task.max_length",
}
# Numbers of a list, or that must agree with others.
TOGETHER = [
    ({"masking.replace": {"mask": 1.0, "random": 0.0, "keep": 0.0}}, None),
    ({"masking.replace": {"mask": 0.0, "random": 0.0, "keep": 1.0}}, None),
    ({"masking.replace": {"mask": 1.1, "random": -0.1, "keep": 0.0}}, "masking.replace.mask=1.1"),
    ({"masking.replace": {"mask": 0.9, "random": 0.1, "keep": 0.1}}, "masking.replace: mask=0.9"),
    ({"masking.replace": {"mask": NAN, "random": 0.5, "keep": 0.5}}, "masking.replace.mask=nan"),
    ({"masking.replace": {"mask": 0.5, "random": -1.0, "keep": 0.5}}, "masking.replace.random=-1"),
    ({"masking.replace": {"mask": 0.5, "random": 0.5, "keep": -1.0}}, "masking.replace.keep=-1"),
    ({"masking.schedule": {"name": "linear", "end": 0.3, "at": 0.5}}, None),
    ({"masking.schedule": {"name": "linear", "end": 1.0, "at": 0.5}}, "masking.schedule.end=1.0"),
    ({"masking.schedule": {"name": "step", "end": None, "at": 0.5}}, "masking.schedule.end=null"),
    ({"masking.dynamic": False, "masking.copies": 1}, None),
    ({"masking.dynamic": False, "masking.copies": 2}, "masking.copies=2"),
    ({"optimizer.betas": [0.0, 0.0]}, None),
    ({"optimizer.betas": [0.9, 1.0]}, "optimizer.betas=[0.9, 1.0]"),
    ({"optimizer.betas": [-1e-9, 0.9]}, "optimizer.betas"),
    ({"optimizer.betas": [0.9, NAN]}, "optimizer.betas"),
    ({"optimizer.betas": []}, "optimizer.betas=[]"),
    ({"evaluation.mask_probs": [1e-9, 0.999]}, None),
    ({"evaluation.mask_probs": [0.0]}, "evaluation.mask_probs"),
    ({"evaluation.mask_probs": [1.0]}, "evaluation.mask_probs"),
    ({"evaluation.mask_probs": [NAN]}, "evaluation.mask_probs"),
    ({"task.negatives": {"swap": 1.0}}, None),
    ({"task.negatives": {"swap": 0.5}}, "task.negatives: swap=0.5 add up to 0.5"),
    ({"task.negatives": {"swap": NAN}}, "task.negatives.swap=nan"),
    ({"task.negatives": {"swap": 2}}, "task.negatives.swap=2"),
    ({"task.weights": {"mlm": 1e-9}}, None),
    ({"task.weights": {"mlm": 0.0}}, "task.weights.mlm=0.0"),
    ({"task.weights": {"mlm": NAN}}, "task.weights.mlm=nan"),
    ({"task.weights": {"mlm": INF}}, "task.weights.mlm=inf"),
    ({"task.weights": {"nsp": 1.0}}, "task.weights=nsp"),
    ({"trainer.epochs": None}, "trainer: epochs, max_steps, max_tokens and max_time are all null"),
]


@pytest.fixture(scope="module")
def composed() -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", overrides=["masking.copies=null"])


@pytest.fixture
def changed(composed: DictConfig) -> Callable[[dict[str, Any]], Config]:
    def change(values: dict[str, Any]) -> Config:
        config = composed.copy()
        OmegaConf.set_struct(config, False)
        for key, value in values.items():
            OmegaConf.update(config, key, value, merge=False)
        return parse(config)

    return change


@pytest.mark.parametrize("key", BOUNDS)
def test_at_its_bounds_a_number_is_taken_and_beyond_them_refused(
    changed: Callable[[dict[str, Any]], Config], key: str
) -> None:
    allowed, refused = BOUNDS[key]
    # The others must not stand in the way.
    free = {"trainer.max_steps": 1, key: None}
    for value in allowed:
        changed({**free, key: value})
    for value in refused:
        with pytest.raises(UserError) as caught:
            changed({**free, key: value})
        message = str(caught.value)
        assert "\n" not in message
        named = f"{re.escape(key)}|{re.escape(NAMED.get(key, key))}"
        assert re.match(rf"({named})[=:]", message), message
        assert re.search(r"must be|has only|less:|divisible", message), message


@pytest.mark.parametrize(("values", "message"), TOGETHER)
def test_numbers_that_must_agree(
    changed: Callable[[dict[str, Any]], Config], values: dict[str, Any], message: str | None
) -> None:
    if message is None:
        changed(values)
        return
    with pytest.raises(UserError) as caught:
        changed(values)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_no_number_of_the_configuration_is_left_out() -> None:
    together = {"masking.replace.mask", "masking.replace.random", "masking.replace.keep"}
    # Other tests of this process may have loaded plugins.
    plugged = tuple(
        f"{each.group}.{name}."
        for each in Registry.all
        for name, keys in each.own.items()
        if not keys.__module__.startswith("bertexp.")
    )
    numbers = {key for key in _numbers(with_own_keys(Config)) if not key.startswith(plugged)}
    # A number or a distribution.
    assert numbers | {"masking.prob"} == BOUNDS.keys() | together


def _numbers(part: type, prefix: str = "") -> list[str]:
    found = []
    for name, kind in get_type_hints(part).items():
        key = f"{prefix}{name}"
        if is_dataclass(kind):
            found += _numbers(kind, f"{key}.")  # type: ignore[arg-type]
        elif {int, float} & {kind, *get_args(kind)} and not hasattr(kind, "__origin__"):
            found.append(key)
    return found
