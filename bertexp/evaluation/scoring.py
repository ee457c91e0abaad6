"""Log-likelihoods of single tokens under a masked model, each from its own masked sequence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch.nn import functional

from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.families.inputs import Inputs
from bertexp.objectives.batch import attention_mask, pad
from bertexp.objectives.learner import Learner

# Tokens per forward pass, including padding, on a CPU and on a GPU.
BATCH_TOKENS, GPU_BATCH_TOKENS = 8192, 65536


@dataclass(frozen=True)
class Places:
    """The tokens to score.

    Attributes:
        rows: sequences with their special tokens.
        row_N, column_N: the sequence of each token, and its position there.
        end_N: each token is masked together with those that follow it before this position.
        text_N: the text of each token, of which ``rows`` may be parts.
    """

    rows: Sequence[np.ndarray]
    row_N: np.ndarray
    column_N: np.ndarray
    end_N: np.ndarray
    text_N: np.ndarray

    @cached_property
    def ids_N(self) -> np.ndarray:
        """The ids of the tokens, ``int64``."""
        places = zip(self.row_N, self.column_N, strict=True)
        return np.array([self.rows[row][column] for row, column in places], dtype=np.int64)


@torch.no_grad()
def log_likelihoods(
    learner: Learner, tokenizer: Tokenizer, places: Places, device: torch.device
) -> np.ndarray:
    """Return the log-probability of each token in nats, ``float64``.

    Args:
        learner: a model with a head for masked tokens; left in evaluation mode.
    """
    learner.eval()
    found_N = np.empty(len(places.row_N))
    size = BATCH_TOKENS if device.type == "cpu" else GPU_BATCH_TOKENS
    for chosen, labels_B, inputs in _batches(tokenizer, places, size):
        logits_BV = learner.masked_logits(inputs.to(device)).float()
        losses_B = functional.cross_entropy(logits_BV, labels_B.to(device), reduction="none")
        found_N[chosen] = -losses_B.cpu().numpy()
    return found_N


def _batches(
    tokenizer: Tokenizer, places: Places, batch_tokens: int
) -> Iterator[tuple[np.ndarray, torch.Tensor, Inputs]]:
    """Yield batches: the tokens' indices into ``places``, their ids and their masked sequences."""
    if not len(places.row_N):
        return
    ids_TL, lengths_T = pad([*places.rows], tokenizer.pad_id)
    # Longest first, so that a batch's first sequence determines how many fit.
    order_N = np.argsort(-lengths_T[places.row_N], kind="stable")
    start = 0
    while start < len(order_N):
        longest = lengths_T[places.row_N[order_N[start]]]
        chosen = order_N[start : start + max(1, batch_tokens // longest)]
        row_B, column_B = places.row_N[chosen], places.column_N[chosen]
        ids_BL, rows_B = ids_TL[row_B, :longest], np.arange(len(chosen))
        column_L = np.arange(longest)
        is_masked_BL = column_L >= column_B[:, None]
        is_masked_BL &= column_L < places.end_N[chosen, None]
        ids_BL[is_masked_BL] = tokenizer.mask_id
        yield (
            chosen,
            torch.from_numpy(places.ids_N[chosen]),
            Inputs(
                input_ids_BL=torch.from_numpy(ids_BL),
                # The last layer and the head compute the scored position only.
                queries_BP=torch.from_numpy(column_B[:, None]),
                slots_U=torch.from_numpy(rows_B),
                attention_mask_BL=attention_mask(ids_BL, lengths_T[row_B]),
            ),
        )
        start += len(chosen)
