"""Frozen features: what each layer of an encoder makes of a text, as one vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from bertexp.data.tokens.tokenizer import WordPieceTokenizer

BATCH_SIZE = 64


def layer_features(
    bert: Any,
    tokenizer: WordPieceTokenizer,
    texts: Sequence[str],
    max_length: int,
    pooling: str,
    device: torch.device,
) -> np.ndarray:
    """Return the features of texts, ``float32`` of shape (layers + 1, texts, hidden).

    The first are those of the embeddings. A text is read as ``[CLS] text [SEP]``, in evaluation
    mode, which the model is left in.

    Args:
        bert: a ``BertModel`` of ``transformers``.
        tokenizer: what cuts the texts.
        texts: what is read.
        max_length: what a text and its special tokens are cut to, at the end.
        pooling: ``mean`` (of all tokens, ``[CLS]`` and ``[SEP]`` too) or ``cls``.
        device: where the model is.
    """
    import torch

    from bertexp.objectives.batch import pad

    bert.eval()
    cls, sep = tokenizer.cls_id, tokenizer.sep_id
    rows = [np.array([cls, *ids[: max_length - 2], sep]) for ids in tokenizer.encode([*texts])]
    features_NYD = np.empty(
        (len(rows), bert.config.num_hidden_layers + 1, bert.config.hidden_size), np.float32
    )
    # Neighbours in length together: little padding.
    order = np.argsort([len(row) for row in rows], kind="stable")
    for chosen in np.split(order, range(BATCH_SIZE, len(order), BATCH_SIZE)):
        ids_BL, lengths_B = pad([rows[index] for index in chosen], tokenizer.pad_id)
        mask_BL = torch.from_numpy(np.arange(ids_BL.shape[1]) < lengths_B[:, None]).to(device)
        with torch.no_grad():
            states = bert(
                input_ids=torch.from_numpy(ids_BL).to(device),
                attention_mask=mask_BL.long(),
                output_hidden_states=True,
            ).hidden_states
            pooled = [_pool(state_BLD, mask_BL, pooling) for state_BLD in states]
            features_NYD[chosen] = torch.stack(pooled, dim=1).float().cpu().numpy()
    return features_NYD.transpose(1, 0, 2)


def _pool(state_BLD: torch.Tensor, mask_BL: torch.Tensor, pooling: str) -> torch.Tensor:
    if pooling == "cls":
        return state_BLD[:, 0]
    return (state_BLD * mask_BL[..., None]).sum(1) / mask_BL.sum(1, keepdim=True)
