"""How close a model comes to the best there is, on a corpus whose law is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from folders import summary


def test_a_tiny_model_comes_within_five_percent_of_the_optimum(command: Callable[..., Any]) -> None:
    """The optimum is exact: forward-backward over the chain, summed over topics.

    That of ``eval/elbo`` is the entropy of the text, see ``tests/objectives/test_diffusion.py``.
    """
    done = command(
        *("task=diffusion", "evaluation.evaluators=[elbo]"),
        *("dataset=synthetic", "dataset.synthetic.words=8", "dataset.synthetic.topics=2"),
        *("dataset.synthetic.concentration=0.3", "tokenizer.vocab_size=128", "task.max_length=32"),
        *("model.hidden_size=64", "model.intermediate_size=128", "optimizer.lr=4e-3"),
        *("trainer.batch_size=64", "trainer.max_steps=800"),
        *("evaluation.every=null", "evaluation.max_examples=512", "tracker=none"),
        *("hardware.threads=1",),
    )
    assert done.code == 0, done.errors
    (run,) = done.folder.glob("outputs/*/*")
    ended = summary(run)
    metrics, optimum = ended["metrics"], ended["optimum"]
    assert optimum["eval/loss"] < 0.7 * ended["yardsticks"]["eval/loss"]
    for name in ("eval/loss", "eval/elbo"):
        # A bank of this size differs from the law by chance: a model may be lucky, not by much.
        assert 0.98 * optimum[name] < metrics[name] < 1.05 * optimum[name], name
