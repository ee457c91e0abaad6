"""The file of a token store: laid out first, then filled, so that memory holds little of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa


def lay_out(path: Path, levels: Sequence[int], dtype: np.dtype) -> list[int]:
    """Write an Arrow file with one nested array of zeros; return where its buffers begin.

    The zeros are pages that the system makes up when they are read: they take no memory.

    Args:
        path: the file.
        levels: how many documents, paragraphs, sentences and tokens there are.
        dtype: of the tokens.

    Returns:
        The place in the file of the offsets of documents, paragraphs and sentences
        (``int64``, one more than there are) and of the tokens, if there are any.
    """
    *units, tokens = levels
    values: pa.Array = pa.array(np.zeros(tokens, dtype))
    for count, below in reversed(list(zip(units, levels[1:], strict=True))):
        offsets = np.zeros(count + 1, np.int64)
        # Arrow writes of the level below what the last offset reaches.
        offsets[-1] = below
        values = pa.LargeListArray.from_arrays(pa.array(offsets), values)
    batch = pa.record_batch([values], names=["documents"])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return _places(path)


def _places(path: Path) -> list[int]:
    with pa.memory_map(str(path)) as source:
        start = source.read_buffer().address
        source.seek(0)
        array = pa.ipc.open_file(source).get_batch(0).column(0)
        # A list has a buffer of validity and one of offsets, and so has what is in it.
        places = [buffer.address - start for buffer in array.buffers() if buffer is not None]
    return [max(place, 0) for place in places]  # what is empty is not in the file
