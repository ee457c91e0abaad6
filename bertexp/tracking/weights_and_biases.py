"""W&B: online if possible, else offline, without prompts or long waits."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import psutil
import wandb
from accelerate.tracking import WandBTracker

from bertexp.console import short_path
from bertexp.files import expanded
from bertexp.metrics import describe
from bertexp.tracking.base import Metrics, SafeTracker
from bertexp.tracking.config import TrackerConfig
from bertexp.tracking.identity import RunIdentity, wandb_setting
from bertexp.validation import UserError, first_line

logger = logging.getLogger(__name__)

STEP = "trainer/step"
_INIT_SECONDS = 8
_FINISH_SECONDS = 120
_SERVICE = "wandb-core"
_NO_KEY = "W&B has no API key"


class WandbTracker(SafeTracker):
    """A W&B run whose charts are drawn over ``trainer/step``.

    The step is logged as data, because W&B drops data of steps before its own, and a resumed run
    logs such steps. The summary keeps the last and the best value of an evaluation metric.

    Under W&B's sweep agent W&B takes project, entity and id from the environment.
    """

    name = "wandb"
    # Why W&B cannot be reached, once that is known: later jobs of a sweep do not wait again.
    _problem: ClassVar[str | None] = None

    def __init__(
        self,
        config: TrackerConfig,
        identity: RunIdentity,
        root: Path,
        resolved_config: dict[str, Any],
    ) -> None:
        self._config = config
        folder = wandb_setting(config, "DIR")
        if wandb_setting(config, "SWEEP_ID") and folder == os.getcwd():
            folder = None  # not the user's: W&B's agent sets it by default
        self._root = expanded(folder or root)
        self._defined: set[str] = set()
        self._arguments: dict[str, Any] = {
            "entity": config.entity,
            **vars(identity),
            "dir": str(self._root),
            "config": resolved_config,
            # Otherwise a run after a crashed one in the same process would log into that.
            "reinit": "finish_previous",
            "settings": _settings(
                console="off",
                silent=True,
                init_timeout=_INIT_SECONDS,
                finish_timeout=_FINISH_SECONDS,
                finish_timeout_raises=True,
            ),
        }
        super().__init__(WandBTracker(config.project))

    def _start(self) -> None:
        """Open the run in the configured mode."""
        self._root.mkdir(parents=True, exist_ok=True)
        chosen = wandb.setup(settings=_settings(silent=True)).settings.mode
        if self._config.mode == "offline":
            self._open("offline")
        elif self._config.mode == "auto" and chosen != "online":
            # The user's own WANDB_MODE, or `wandb offline`.
            self._open(chosen)
        else:
            self._open_online()

    def _open_online(self) -> None:
        known = WandbTracker._problem
        problem = known or self._try_online()
        if problem is None:
            return
        if self._config.mode == "online":
            raise UserError(
                f"tracker.mode=online: {problem}. Log in with `wandb login` or WANDB_API_KEY, "
                "or choose tracker.mode=offline."
            )
        self._open("offline")
        if problem not in (known, _NO_KEY):
            logger.warning("wandb: %s. Tracked offline; to upload: %s", problem, self._sync())

    def _try_online(self) -> str | None:
        """Open the run online; returns why that is not possible, or None."""
        problem = _NO_KEY
        try:
            # Verifying first leaves no empty run behind without a network.
            if wandb.login(prompt=False, verify=True):
                self._open("online", resume=wandb_setting(self._config, "RESUME") or "allow")
                return None
        except Exception as error:
            problem = first_line(error)
            # W&B's service keeps the id of a run that failed to start.
            wandb.teardown()
        if problem != _NO_KEY:
            WandbTracker._problem = problem
        return problem

    def _open(self, mode: str, resume: str | None = None) -> None:
        self._inner.init_kwargs = {**self._arguments, "mode": mode, "resume": resume}
        self._inner.start()
        run = self._inner.run
        for names in ("train/*", "eval/*"):
            run.define_metric(names, step_metric=STEP)
        if mode == "online":
            self.location = run.url
        elif not run.disabled:
            leet = shlex.join(["wandb", "leet", str(short_path(self._root / "wandb"))])
            self.location = f"{leet}\n{self._sync()}"

    def _sync(self) -> str:
        """Return the command that uploads the run: all of its folders, as it may be resumed."""
        parent = short_path(self._inner.run.settings.sync_dir).parent
        return f"wandb sync {shlex.quote(str(parent))}/offline-run-*-{self._arguments['id']}"

    def _log(self, values: Metrics, step: int | None) -> None:
        for name in values.keys() - self._defined:
            self._defined.add(name)
            # Training metrics have no best value: rates and budgets change during a run.
            best = describe(name).best if name.startswith("eval/") else None
            if best:
                self._inner.run.define_metric(name, step_metric=STEP, summary=f"{best},last")
        self._inner.log(values if step is None else {**values, STEP: step})

    def _log_rows(self, name: str, columns: list[str], rows: list[list[Any]]) -> None:
        self._inner.run.log({name: wandb.Table(columns=[*columns], data=rows)})

    def _log_pictures(self, name: str, paths: Sequence[Path]) -> None:
        for path in paths:
            # A picture and a page may have the same name.
            is_page = path.suffix == ".html"
            key = f"{name}/{path.stem}{'_page' if is_page else ''}"
            self._inner.run.log({key: (wandb.Html if is_page else wandb.Image)(str(path))})

    def _describe(self, values: Mapping[str, Any]) -> None:
        self._inner.run.config.update(dict(values), allow_val_change=True)

    def _stop(self, number: int) -> None:
        # W&B's agent restarts what is preempted, and would restart what W&B itself has stopped: it
        # sends SIGTERM for a run that is pruned, SIGINT for one that is stopped on its page.
        by_wandb = number in (signal.SIGINT, signal.SIGTERM)
        if not (by_wandb and wandb_setting(self._config, "SWEEP_ID")):
            self._inner.run.mark_preempting()

    def _finish(self, failed: bool) -> None:
        try:
            self._inner.run.finish(exit_code=int(failed))
        except TimeoutError as error:
            self._abandon()
            raise TimeoutError(
                f"{first_line(error)}; to upload the rest: {self._sync()}"
            ) from error
        except ConnectionError:
            _forget_service()
            raise

    def _abandon(self) -> None:
        # At the end of the process W&B waits for its service, however long that takes.
        for child in psutil.Process().children():
            if child.name() == _SERVICE:
                child.kill()
        _forget_service()


def _settings(**values: Any) -> wandb.Settings:
    """Return W&B's settings; those in the environment take precedence."""
    ours = {
        name: value for name, value in values.items() if f"WANDB_{name.upper()}" not in os.environ
    }
    return wandb.Settings(**ours)


def _forget_service() -> None:
    """Forget a dead service; otherwise W&B would end the process with a traceback or exit code."""
    with contextlib.suppress(Exception, SystemExit):
        wandb.teardown()
