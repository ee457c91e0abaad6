"""``python -m bertexp``, warm: every call is a fork of one process that has all loaded.

Reads a call a line (JSON: arguments, folder, environment), answers with its exit code. What the
call says is in ``said`` beside its folder.
"""

from __future__ import annotations

import gc
import json
import os
import sys

# What a call would load: seconds that are spent once here.
import datasets  # noqa: F401
import tokenizers  # noqa: F401
import wandb  # noqa: F401
from hydra import compose, initialize_config_dir
from transformers import AutoConfig, AutoTokenizer, BertConfig, BertTokenizer  # noqa: F401
from transformers.models.bert import modeling_bert  # noqa: F401

import bertexp.experiment  # noqa: F401
from bertexp.cli import main
from bertexp.config import conf_dir, parse


def serve() -> None:
    # Hydra reads the whole environment for plugins, and its parser learns as it goes.
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        parse(compose("config", overrides=["seed=1", "dataset=text", "dataset.files=['a']"]))
    gc.freeze()
    print("ready", flush=True)
    for line in sys.stdin:
        call = json.loads(line)
        child = os.fork()
        if child == 0:
            nothing = os.open(os.devnull, os.O_RDONLY)
            said = os.open(call["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for descriptor, number in ((nothing, 0), (said, 1), (said, 2)):
                os.dup2(descriptor, number)
            os.chdir(call["folder"])
            os.environ.update(call["environment"])
            if call["user"]:
                os.seteuid(call["user"])
            sys.argv = ["bertexp", *call["arguments"]]
            main()
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


serve()
