"""What the architecture topic counts, against transformers and torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForPreTraining, BertModel

from bertexp.families.base import Family
from bertexp.families.costs import Part

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
SMALL = BertConfig(vocab_size=99, intermediate_size=80, **SIZES)


def parts(model: Any, length: int) -> dict[str, Part]:
    return {part.name: part for part in Family.of(model).parts(length)}


def count(found: list[Part]) -> int:
    """Return the number of parameters; shared ones count once."""
    weights = {id(weight): weight for part in found for weight in part.module.parameters()}
    return sum(weight.numel() for weight in weights.values())


def test_parts_of_base_are_those_that_transformers_has() -> None:
    with torch.device("meta"):
        bare = BertModel(BertConfig(), add_pooling_layer=False)
        whole = BertForPreTraining(BertConfig())
    found = parts(whole, 128)
    assert count([*parts(bare, 128).values()]) == bare.num_parameters() == 108_891_648
    assert count([part for part in found.values() if not part.is_head]) == bare.num_parameters()
    # The head's decoder is the embedding table, which counts once.
    assert count([*found.values()]) == whole.num_parameters()
    assert count([found["word embeddings"]]) == 30_522 * 768
    assert count([found["position embeddings"]]) == 512 * 768
    assert count([found["pooler"]]) == 768 * 768 + 768
    assert count([found["pairs' head"]]) == 2 * 768 + 2


def test_operations_are_those_that_torch_counts() -> None:
    length = 24
    model: Any = BertForPreTraining(SMALL).eval()
    model.set_attn_implementation("eager")
    found = {name: 2 * part.products for name, part in parts(model, length).items()}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros((1, length), dtype=torch.int64))
    once = found["pooler"] + found["pairs' head"]
    each = found["encoder"] + found["masked tokens' head"]
    assert length * each + once == counter.get_total_flops()


def test_a_size_is_looked_at_without_a_corpus(command: Callable[..., Any]) -> None:
    done = command(
        *("what=architecture", "model=base", "tokenizer.vocab_size=30522"),
        module="bertexp.inspect",
    )
    assert done.code == 0, done.lines
    lines = done.output.splitlines()
    assert max(map(len, lines)) <= 80
    # No line is broken: each names a module, its shapes or its parameters, or a part.
    assert "          intermediate_act_fn: GELUActivation" in [line.rstrip() for line in lines]
    (layers,) = (line for line in lines if "0-11: 12 x BertLayer" in line)
    assert layers.split()[-3:] == ["12", "x", "7,087,872"]
    (bare,) = (line for line in lines if line.startswith("without pooler and heads"))
    assert "108,891,648" in bare
    assert "30522×768" in done.output
    # Nothing is written, not even to the cache.
    assert [*done.folder.iterdir()] == []


def test_a_trained_model_has_its_heads(
    command: Callable[..., Any], trained: Callable[[str], Any]
) -> None:
    run = trained("mlm_nsp")
    done = command("what=architecture", f"run={run}", module="bertexp.inspect")
    model = BertForPreTraining.from_pretrained(run / "model")
    (total,) = (line.split()[1] for line in done.output.splitlines() if line.startswith("all "))
    assert total == f"{model.num_parameters():,}"
    assert "\npairs' head " in done.output
