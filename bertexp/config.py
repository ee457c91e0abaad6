"""The whole configuration, composed of the dataclasses of all packages."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, is_dataclass
from types import UnionType
from typing import Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bertexp import plugins
from bertexp.data.config import DatasetConfig, TokenizerConfig
from bertexp.evaluation.config import EvaluationConfig
from bertexp.experiment.rates import with_rate
from bertexp.families.config import FamilyConfig, ModelConfig
from bertexp.files import conf_dir as conf_dir
from bertexp.files import expanded
from bertexp.keys import check_parts, check_values, key, walk
from bertexp.masking.config import MaskingConfig
from bertexp.objectives.config import TaskConfig
from bertexp.registry import Registry, with_own_keys
from bertexp.tracking.config import TrackerConfig
from bertexp.training.config import TrainingConfig
from bertexp.validation import UserError, nearest_key, refuse_secrets, require, require_folder_name


@dataclass(kw_only=True)
class RunConfig(TrainingConfig):
    """The keys of every training run, pre-training or fine-tuning."""

    # The module after ``python -m``, the kind of experiment (a class, imported late), and the keys
    # and groups that the command does not read.
    command: ClassVar[str] = "bertexp"
    experiment_class: ClassVar[str] = "bertexp.experiment.pretraining.Pretraining"
    ignores: ClassVar[tuple[str, ...]] = ()
    # Keys whose values the command varies itself, so that it reads the keys of each.
    varies: ClassVar[tuple[str, ...]] = ()

    tracker: TrackerConfig
    name: str | None
    sweep: str
    plugins: list[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.seed < 2**32, "seed", self.seed, "between 0 and 4294967295")
        require_folder_name("sweep", self.sweep)


@dataclass(kw_only=True)
class Config(RunConfig):
    """One pre-training experiment: a field for every config group, and the top-level keys."""

    task: TaskConfig
    masking: MaskingConfig
    dataset: DatasetConfig
    tokenizer: TokenizerConfig
    family: FamilyConfig = key(read_with=("model.pretrained", None))
    model: ModelConfig
    evaluation: EvaluationConfig
    phases: list[dict[str, Any]]

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_tokenizer()
        key = "max_length" if self.task.pad_to is None else "pad_to"
        longest = getattr(self.task, key)
        if not self.model.pretrained and longest > self.model.max_position_embeddings:
            raise UserError(
                f"task.{key}={longest}: the model has only "
                f"model.max_position_embeddings={self.model.max_position_embeddings} positions."
            )
        if self.dataset.streaming:
            self._check_streaming()

    def _check_tokenizer(self) -> None:
        if self.tokenizer.name == "pretrained" and not self.tokenizer.path:
            raise UserError(
                "tokenizer.path is not set: tokenizer=pretrained needs a vocabulary file, a folder "
                "or a Hub name."
            )

    def _check_streaming(self) -> None:
        because = "where dataset.streaming=true"
        of_text = not self.task.uses_sentences
        require(of_text, "task", self.task.name, f"a task of text such as mlm {because}")
        form = self.task.format
        require(form == "blocks", "task.format", form, f"blocks {because}")
        require(
            self.trainer.epochs is None,
            "trainer.epochs",
            self.trainer.epochs,
            f"null {because}, and one of max_steps, max_tokens and max_time set: nobody knows how "
            "many steps an epoch has",
        )
        dynamic = self.masking.dynamic and self.masking.copies is None
        allowed = f"true, with masking.copies=null, {because}: no example comes twice"
        require(dynamic, "masking.dynamic", self.masking.dynamic, allowed)
        limit = self.dataset.max_documents
        require(limit is None, "dataset.max_documents", limit, f"null {because}")


C = TypeVar("C")

# ${if:condition,value,other} and ${any:values} in the files of conf/.
OmegaConf.register_new_resolver(
    "if", lambda condition, value, other: value if condition else other, replace=True
)
OmegaConf.register_new_resolver("any", lambda *values: any(values), replace=True)

# Keys that change where and how fast a run is and what it reports, but not its results.
_ONLY_HOW = re.compile(
    r"name|sweep|plugins|tracker\..*|hardware\.(?!precision$).*"
    r"|trainer\.(log_every|save_every|keep_checkpoints|max_bad_steps|resume|resume_force|dry_run)"
)

_PATHS = re.compile(
    r"run|output|tokenizer\.path|model\.pretrained|dataset\.(files|hub\.path)|trainer\.resume"
    r"|finetune\.(path|hub|train|validation|test)"
)


def changes_outcome(key: str) -> bool:
    """Whether the result of a run depends on a key, dotted."""
    return not _ONLY_HOW.fullmatch(key)


def parse(composed: DictConfig, schema: type[C] = Config) -> C:  # type: ignore[assignment]
    """Convert what Hydra composed to ``schema``, and check it.

    Raises:
        UserError: an unknown key, a value of the wrong type or out of range, or one that
            contains a secret of the environment.
    """
    try:
        plugins.load(plugins.listed(composed.get("plugins")))
        schema = with_own_keys(schema)
        if "model" in composed:
            composed = with_rate(composed)
        plain: Any = _fitted(OmegaConf.to_container(composed, resolve=True), schema)
        refuse_secrets(plain)
        typed: Any = OmegaConf.merge(OmegaConf.structured(schema), plain)
        for missing in sorted(OmegaConf.missing_keys(typed)):
            raise UserError(f"{missing}: has no value; set one.")
        check_values(schema, typed)
        # Loads torch, which takes seconds; most mistakes are found by now.
        check_parts(schema, typed)
        return OmegaConf.to_object(typed)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise UserError(_explain(error, schema)) from error


def _fitted(value: Any, kind: Any, key: str = "") -> Any:
    """Convert a value to the type of its key, where the meaning is clear.

    A single value becomes a list of one, 1e2 an integer where the key is one, and ``~`` in a path
    the home folder.
    """
    if is_dataclass(kind) and isinstance(value, dict):
        hints = get_type_hints(kind)
        return {
            name: _fitted(each, hints.get(name), f"{key}.{name}" if key else str(name))
            for name, each in value.items()
        }
    kinds = {kind, *get_args(kind)} if isinstance(kind, UnionType) else {kind}
    if lists := [each for each in kinds if get_origin(each) is list]:
        if value is None:
            return None
        (inner,) = get_args(lists[0])
        return [
            _fitted(each, inner, key) for each in (value if isinstance(value, list) else [value])
        ]
    if int in kinds and float not in kinds and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.startswith("~") and _PATHS.fullmatch(key):
        return str(expanded(value))
    return value


def keys(schema: type[Any] = Config) -> list[str]:
    """Return every key of the schema that holds a value, dotted."""
    return [name for name, _, kind in walk(with_own_keys(schema)) if not is_dataclass(kind)]


def groups(schema: type[RunConfig] = Config) -> list[str]:
    hints = get_type_hints(schema)
    return [field.name for field in fields(schema) if is_dataclass(hints[field.name])]


def own_keys() -> dict[str, type[Any]]:
    """Return the dataclasses of registered builders' own keys, by the dotted key above them."""
    return {
        f"{registry.group}.{name}": kind
        for registry in Registry.all
        for name, kind in registry.own.items()
    }


def store_own_keys() -> None:
    """Store registered builders' own keys, with their defaults, for Hydra to compose."""
    # The order in which everything is shown.
    named = groups()
    node: dict[str, Any] = {group: {} for group in Config.__annotations__ if group in named}
    for place, kind in own_keys().items():
        group, _, name = place.rpartition(".")
        node.setdefault(group, {})[name] = OmegaConf.to_container(OmegaConf.structured(kind))
    ConfigStore.instance().store("own_keys", node)


# OmegaConf's messages about a value of another type, and what the key needs instead.
_NEEDED = {
    r"Value '(.*)' of type '\w+' could not be converted to Integer": "an integer",
    r"Value '(.*)' of type '\w+' could not be converted to Float": "a number",
    # Types are named in the order in which Python first met their union.
    r"Value '(.*)' of type '\w+' is incompatible with .*Union\[(?:int, str|str, int)\]": (
        "an integer or a word"
    ),
    r"Value '(.*)' of type '\w+' is incompatible with .*Union\[(?:bool, str|str, bool)\]": (
        "true, false or a word"
    ),
    r"Value '(.*)' is not a valid bool": "true or false",
    r"Incompatible value '(None)' for field of type 'bool'": "true or false",
    r"Incompatible value '(None)' for field of type": "a value, not null",
}


def _explain(error: OmegaConfBaseException, schema: type[Any]) -> str:
    key: Any = error.full_key or error.key
    reason = str(error.msg or error).splitlines()[0].rstrip(".")
    if "not in" in reason:
        return f"{key}: no such key.{nearest_key(str(key), keys(schema))}"
    if "Missing mandatory value" in reason:
        return f"{key}: has no value; set {key}=..."
    if "HydraConfig was not set" in reason:
        return f"{key}: ${{hydra:...}} has no value before a sweep's jobs start; use another key."
    for pattern, needed in _NEEDED.items():
        if match := re.match(pattern, reason):
            unit = " of minutes" * (key == "trainer.max_time")
            return f"{key}={match[1].replace('None', 'null')}: must be {needed}{unit}."
    return f"{key}: {reason[0].lower()}{reason[1:]}."
