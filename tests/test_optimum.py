"""How close a model comes to the best there is, on a corpus whose law is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from folders import summary


def test_a_tiny_model_comes_within_five_percent_of_the_optimum(command: Callable[..., Any]) -> None:
    """The bound is exact: forward-backward over the chain, summed over topics."""
    done = command(
        *("dataset=synthetic", "dataset.synthetic.words=8", "dataset.synthetic.topics=2"),
        *("dataset.synthetic.concentration=0.3", "tokenizer.vocab_size=128", "task.max_length=32"),
        *("masking.prob=0.3", "masking.replace.mask=1", "masking.replace.random=0"),
        *("model.hidden_size=64", "model.intermediate_size=128", "optimizer.lr=4e-3"),
        *("masking.replace.keep=0", "trainer.batch_size=32", "trainer.max_steps=800"),
        *("evaluation.every=null", "evaluation.max_examples=512", "tracker=none"),
        *("evaluation.pseudo_perplexity=null", "hardware.threads=1"),
    )
    assert done.code == 0, done.errors
    (run,) = done.folder.glob("outputs/*/*")
    ended = summary(run)
    found, best = (ended[name]["eval/loss"] for name in ("metrics", "optimum"))
    assert best < 0.7 * ended["yardsticks"]["eval/loss"]
    # A bank of this size differs from the law by chance: a model may be lucky, not by much.
    assert 0.98 * best < found < 1.05 * best
