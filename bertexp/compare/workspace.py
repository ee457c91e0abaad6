"""A W&B workspace that shows sweeps as they are compared here."""

from __future__ import annotations

import wandb
from omegaconf import OmegaConf
from wandb_workspaces.reports.v2.interface import (
    Config,
    LinePlot,
    Metric,
    PanelTypes,
    ParallelCoordinatesPlot,
    ParallelCoordinatesPlotColumn,
    ScatterPlot,
    SummaryMetric,
)
from wandb_workspaces.workspaces.interface import (
    RunsetSettings,
    Section,
    Workspace,
    WorkspaceSettings,
)

from bertexp.config import conf_dir
from bertexp.metrics import BITS_PER_BYTE
from bertexp.objectives.slices import SLICE_PREFIX, SLICES
from bertexp.validation import UserError, first_line

NAME = "bertexp: sweeps side by side"
STEP, PREDICTED = "trainer/step", "train/predicted_tokens"
# The keys that sweeps vary besides the one on the x axis.
VARIED = ("masking.strategy", "optimizer.lr", "seed")


def save_workspace(project: str, entity: str | None) -> str:
    """Build the workspace of a project and save it on W&B's server; returns its address.

    Args:
        entity: the W&B user or team; None: the default one of the key.

    Raises:
        UserError: nobody is logged in, or W&B does not answer or refuses.
    """
    try:
        wandb.setup(settings=wandb.Settings(silent=True))
        if wandb.login(prompt=False, verify=True):
            owner = entity or wandb.Api().default_entity or ""
            workspace = build_workspace(owner, project)
            workspace.save()
            return str(workspace.url)
    except Exception as error:
        raise UserError(f"--workspace: {first_line(error)}.") from error
    raise UserError("--workspace: W&B has no API key. Log in with `wandb login` or WANDB_API_KEY.")


def build_workspace(entity: str, project: str, by: str = "masking.prob") -> Workspace:
    """Return the workspace of a project; needs no server.

    Runs that agree in the key ``by`` are drawn as one curve, their mean, with a band of a standard
    deviation.
    """
    sections = _sections(by)
    opened = [*sections][:2]
    return Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=[
            Section(name=name, panels=panels, is_open=name in opened)
            for name, panels in sections.items()
        ],
        settings=WorkspaceSettings(x_axis=STEP, max_runs=100),
        # Comparisons are runs too, but have no curves.
        runset_settings=RunsetSettings(filters="Metric('JobType') = 'pretrain'"),
    )


def _sections(by: str) -> dict[str, list[PanelTypes]]:
    rates = OmegaConf.load(conf_dir() / "evaluation" / "default.yaml").mask_probs
    by_rate = [f"eval/loss@{rate:g}" for rate in rates]
    slices = [SLICE_PREFIX + kind for kinds in SLICES.values() for kind in kinds]
    evaluation = ("eval/loss", "eval/accuracy", "eval/pseudo_perplexity", BITS_PER_BYTE)
    return {
        "Training": [
            _curve("train/loss", by),
            _curve("train/loss", by, PREDICTED),
            _curve("train/loss", None),
            _curve("train/masked_fraction", by),
            _curve("train/learning_rate", by),
        ],
        f"Evaluation against {by}": [
            *(_scatter(name, by) for name in evaluation),
            _curve("eval/loss", by),
            _curve("eval/loss", by, PREDICTED),
        ],
        "Loss by evaluation rate": [
            panel for name in by_rate for panel in (_scatter(name, by), _curve(name, by))
        ],
        "Slices": [_curve(name, by) for name in slices],
        "Throughput": [_curve("train/tokens_per_second", by)],
        "All settings": [_all_settings(by)],
    }


def _all_settings(by: str) -> ParallelCoordinatesPlot:
    metrics: list[Config | SummaryMetric] = [Config(key) for key in (by, *VARIED)]
    metrics += [SummaryMetric(_final(name)) for name in ("eval/accuracy", "eval/loss")]
    columns = [ParallelCoordinatesPlotColumn(metric=metric) for metric in metrics]
    return ParallelCoordinatesPlot(title="What goes with a low loss", columns=columns)


def _curve(metric: str, by: str | None, axis: str = STEP) -> LinePlot:
    """Return a metric's course, a curve for each value of ``by``; for each sweep where None."""
    return LinePlot(
        title=f"{metric} over {axis} by {by or 'sweep'}",
        x=axis,
        y=[metric],
        groupby=Config(by) if by else Metric("Group"),
        groupby_aggfunc="mean",
        groupby_rangefunc="stddev",
    )


def _scatter(metric: str, by: str) -> ScatterPlot:
    return ScatterPlot(
        title=f"{metric} against {by}", x=Config(by), y=SummaryMetric(_final(metric))
    )


def _final(metric: str) -> str:
    """Return where a summary keeps the last value; the best of many would flatter noisy runs."""
    return f"{metric}.last"
