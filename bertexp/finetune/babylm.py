"""The tasks that the BabyLM challenge of 2025 kept of GLUE and SuperGLUE, in its own files.

They are in one folder, ``glue_filtered``: ``<task>.train.jsonl`` and ``<task>.valid.jsonl``. The
challenge collects predictions on the latter.
"""

from __future__ import annotations

import json

# By the name of the option, the validation files by condition; the first one decides.
BABYLM = {
    f"babylm_{task}": {"": task} for task in ("boolq", "multirc", "rte", "wsc", "mrpc", "qqp")
} | {"babylm_mnli": {"": "mnli", "mismatched": "mnli-mm"}}


def in_its_form(task: str, labels: list[str]) -> str:
    """Return predictions as the challenge's pipeline collects them."""
    rows = [{"id": f"{task}_{n}", "pred": int(label)} for n, label in enumerate(labels)]
    return json.dumps({task: {"predictions": rows}})
