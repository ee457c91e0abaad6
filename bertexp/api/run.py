"""A run, or any saved model, as an object."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose
from omegaconf import DictConfig
from rich.console import Group, RenderableType
from rich.text import Text

from bertexp.api.process import written
from bertexp.arguments import composing
from bertexp.compare.runs import Record, read_run
from bertexp.console import short_path
from bertexp.display import Picture, Shown, picture
from bertexp.experiment.folder import recorded
from bertexp.experiment.saved import Saved, find_saved
from bertexp.files import expanded
from bertexp.mistakes import in_one_line
from bertexp.training.config import DEVICES
from bertexp.validation import UserError, require, require_choice, require_count, require_text

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from bertexp.inspect.attention import Attention
    from bertexp.inspect.examples import MaskedText
    from bertexp.inspect.subject import Subject
    from bertexp.predict.prediction import Predictor
    from bertexp.predict.results import Prediction


class Run(Shown):
    """A run on disk; each part is read when it is first used.

    Args:
        path: a run's folder, one of its checkpoints, or a model's folder or name on the Hub.
        device: where the model computes, as in ``hardware.device``.

    Attributes:
        folder: the run's; None for a model from elsewhere, which has no records.

    Raises:
        UserError: there is no run and no model.
    """

    def __init__(self, path: str | os.PathLike[str], device: str = "auto") -> None:
        require(isinstance(path, str | os.PathLike), "path", path, "a folder or a name on the Hub")
        require_choice("device", device, DEVICES)
        # The working directory may change.
        folder = expanded(path).absolute()
        self._path = str(folder) if folder.exists() else os.fspath(path)
        self._device = device
        # A run without a model has records all the same.
        self.folder = folder if recorded(folder, "config") else self.saved.run

    @cached_property
    def saved(self) -> Saved:
        """Where its model is."""
        return find_saved(self._path)

    @property
    def config(self) -> DictConfig:
        """Its configuration: ``run.config.masking.prob``."""
        found = recorded(self._require_folder(), "config")
        assert found is not None
        return found

    @property
    def summary(self) -> dict[str, Any]:
        """Its ``summary.json``."""
        return dict(self._records.summary)

    @property
    def metrics(self) -> pd.Series[float]:
        """What it was evaluated on at its end, by name."""
        import pandas as pd

        return pd.Series(self._records.metrics, dtype=float, name=self._records.name)

    @property
    def curve(self) -> pd.DataFrame:
        """All that was logged: a row a step, a column a metric."""
        import pandas as pd

        lines = pd.DataFrame([*self._records.history], dtype=float)
        return lines if lines.empty else lines.astype({"step": int}).groupby("step").last()

    @cached_property
    def model(self) -> Any:
        """Its model of ``transformers``, in evaluation mode, with the heads it was saved with."""
        return self.saved.load_model()

    @cached_property
    def tokenizer(self) -> Any:
        """Its tokenizer of ``transformers``."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.saved.source)

    def fill(
        self,
        text: str,
        *,
        steps: int | None = None,
        seed: int | None = None,
        temperature: float = 1.0,
    ) -> Prediction:
        """Fill the masks of a text, or score a text without masks.

        Args:
            steps: fill the masks over so many steps, surest first; None: each by itself.
            seed: of drawn tokens; None: the likeliest ones are taken.
            temperature: of the draws.
        """
        from bertexp.predict.unmasking import Unmasking

        require_text("text", text)
        if steps is not None:
            require_count("steps", steps)
        require(seed is None or isinstance(seed, Integral), "seed", seed, "a whole number")
        fits = isinstance(temperature, Real) and float(temperature) > 0
        require(fits, "temperature", temperature, "a number above 0")
        together = steps is not None or seed is not None
        return self._predict(text, None, Unmasking(steps, seed, temperature) if together else None)

    def next_sentence(self, text: str, text_b: str) -> float:
        """Return the probability that the second text follows the first."""
        require_text("text_b", text_b)
        found = self._predict(text, text_b).follows
        if found is None:
            raise UserError("text_b: the model judges no pairs; a run with task=nsp does.")
        return found

    def masks(
        self, text: str, text_b: str | None = None, *, draws: int = 10, **masking: Any
    ) -> MaskedText:
        """Mask a text several times as in training, or with other keys of ``masking.*``.

        Args:
            masking: ``prob=0.4``, ``strategy="span"``, ``**{"span.p": 0.5}``.
        """
        from bertexp.inspect.examples import mask_text

        require_count("draws", draws)
        settings = [f"masking.{key}={written(value)}" for key, value in masking.items()]
        return mask_text(self._subject("masking", text, text_b, settings), draws)

    def attention(self, text: str, text_b: str | None = None) -> Attention:
        """Return the attention of each head to a text, or to a pair of texts."""
        from bertexp.inspect.attention import read_attention

        return read_attention(self._subject("attention", text, text_b))

    def features(self, texts: Sequence[str], *, pooling: str = "mean") -> np.ndarray:
        """Return a vector for each text, of shape (texts, hidden): the last layer's states.

        Args:
            pooling: ``mean`` over the tokens, or ``cls``: the first one's.
        """
        from bertexp.evaluation.probes import POOLINGS
        from bertexp.evaluation.probing import layer_features
        from bertexp.families.base import Family
        from bertexp.training.setup import choose_device

        require_choice("pooling", pooling, POOLINGS)
        given = [*texts] if isinstance(texts, Iterable) and not isinstance(texts, str) else []
        is_list = bool(given) and all(isinstance(text, str) for text in given)
        require(is_list, "texts", texts, "a list of texts, at least one")
        device = choose_device(self._device)
        encoder = Family.of(self.model.to(device)).base
        longest = self.saved.max_length(self.model.config)
        read = (encoder, self.saved.load_tokenizer(), given, longest, pooling, device)
        found: np.ndarray = layer_features(*read)[-1].cpu().numpy()
        return found

    def __fspath__(self) -> str:
        """Return its path, so that it stands for itself in ``bertexp.compare`` and settings."""
        return self._path

    def __repr__(self) -> str:
        return f"bertexp.load({self._path!r})"

    def __rich__(self) -> RenderableType:
        if self.folder is None:
            return Text(self.saved.source, "bold")
        from bertexp.experiment.report import results
        from bertexp.experiment.results import before_training

        records = self._records
        where = f"  {records.status}  {short_path(self.folder)}"
        title = Text.assemble((records.name, "bold"), where)
        if not records.metrics:
            return Group(title, Text(records.error or "", "red"))
        columns = {
            "before": before_training(records.history),
            "model": records.metrics,
            "yardstick": records.summary.get("yardsticks", {}),
            "optimum": records.summary.get("optimum", {}),
        }
        return Group(title, results("", columns, records.summary.get("answered", {})))

    def pictures(self) -> Iterator[Picture]:
        from bertexp.compare.comparison import compare
        from bertexp.compare.plots import curves_figure
        from bertexp.plotting import drawing

        if self.folder is None or not self._records.metrics:
            return
        with drawing():
            if drawn := curves_figure(compare([self._records])):
                yield picture(drawn)

    @property
    def _records(self) -> Record:
        return read_run(self._require_folder())

    @cached_property
    def _predict(self) -> Predictor:
        from bertexp.predict.prediction import Predictor

        return Predictor(self.saved, self._device)

    def _subject(
        self, what: str, text: str, text_b: str | None, settings: Sequence[str] = ()
    ) -> Subject:
        from bertexp.inspect.__main__ import as_hydra_reads
        from bertexp.inspect.config import InspectConfig
        from bertexp.inspect.subject import Subject

        given = {"what": what, "run": self._path, "text": text}
        given |= {} if text_b is None else {"text_b": text_b}
        for key, value in given.items():
            require_text(key, value)
        overrides = [as_hydra_reads(f"{key}={value}") for key, value in given.items()]
        overrides += [*settings, f"hardware.device={self._device}"]
        with in_one_line(InspectConfig), composing():
            return Subject.of(compose("inspect", overrides), overrides)

    def _require_folder(self) -> Path:
        if self.folder is None:
            raise UserError(f"{self._path}: is a model without a run, which has the records.")
        if not self.folder.is_dir():
            raise UserError(f"{self._path}: the run's folder is gone.")
        return self.folder
