"""What ``--help`` says: every group with its options, every key with its value.

Hydra says the same, but copies all that it has read anew for each group: half of a second.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from bertexp.config import conf_dir

FLAGS = {"-h", "--help"}


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for help and has no other option: those are Hydra's to follow."""
    options = {argument for argument in arguments if argument.startswith("-")}
    return bool(options) and options <= FLAGS


def help_text(config_name: str, arguments: Sequence[str]) -> str:
    """Return the help of a command, with the values that its overrides would give.

    Args:
        config_name: the file in ``conf/`` that the command starts from.
        arguments: ``--help`` and overrides.
    """
    overrides = [argument for argument in arguments if argument not in FLAGS]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = compose(config_name, overrides, return_hydra_config=True)
    template = string.Template(composed.hydra.help.template)
    values = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    return template.substitute(APP_CONFIG_GROUPS=_groups(), CONFIG=OmegaConf.to_yaml(values))


def _groups() -> str:
    root = conf_dir()
    found: dict[str, list[str]] = {}
    for path in sorted(root.rglob("*.yaml")):
        group = path.parent.relative_to(root).as_posix()
        if group.split("/")[0] not in (".", "hydra"):
            found.setdefault(group, []).append(path.stem)
    return "".join(f"{group}: {', '.join(options)}\n" for group, options in found.items())
