"""What the W&B workspace shows: sections of panels, a function each."""

from __future__ import annotations

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
from bertexp.objectives.slices import SLICE_PREFIX, SLICES

NAME = "bertexp: sweeps side by side"
STEP, PREDICTED = "trainer/step", "train/predicted_tokens"
# What sweeps vary beside the key that is charted against.
VARIED = ("masking.strategy", "optimizer.lr", "seed")


def build_workspace(entity: str, project: str, by: str = "masking.prob") -> Workspace:
    """Return the workspace of a project; needs no server.

    Args:
        entity: the W&B user or team.
        project: the W&B project.
        by: the configuration key that the runs of a sweep differ in. Runs that agree in it are
            drawn as one curve, their mean, with a band of a standard deviation.
    """
    return Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=[
            _training(by),
            _evaluation(by),
            _by_rate(by),
            _slices(by),
            _throughput(by),
            _all_settings(by),
        ],
        settings=WorkspaceSettings(x_axis=STEP, max_runs=100),
        # Comparisons are runs too, but have no curves.
        runset_settings=RunsetSettings(filters="Metric('JobType') = 'pretrain'"),
    )


def _training(by: str) -> Section:
    panels: list[PanelTypes] = [
        _curve("train/loss", by),
        _curve("train/loss", by, PREDICTED),
        _curve("train/loss", None),
        _curve("train/masked_fraction", by),
        _curve("train/learning_rate", by),
    ]
    return Section(name="Training", panels=panels, is_open=True)


def _evaluation(by: str) -> Section:
    names = ("eval/loss", "eval/accuracy", "eval/pseudo_perplexity")
    panels: list[PanelTypes] = [_scatter(name, by) for name in names]
    panels += [_curve("eval/loss", by), _curve("eval/loss", by, PREDICTED)]
    return Section(name=f"Evaluation against {by}", panels=panels, is_open=True)


def _by_rate(by: str) -> Section:
    rates = OmegaConf.load(conf_dir() / "evaluation" / "default.yaml").mask_probs
    names = [f"eval/loss@{rate:g}" for rate in rates]
    panels: list[PanelTypes] = []
    for name in names:
        panels += [_scatter(name, by), _curve(name, by)]
    return Section(name="Loss by evaluation rate", panels=panels)


def _slices(by: str) -> Section:
    names = [SLICE_PREFIX + kind for kinds in SLICES.values() for kind in kinds]
    return Section(name="Slices", panels=[_curve(name, by) for name in names])


def _throughput(by: str) -> Section:
    return Section(name="Throughput", panels=[_curve("train/tokens_per_second", by)])


def _all_settings(by: str) -> Section:
    metrics: list[Config | SummaryMetric] = [Config(key) for key in (by, *VARIED)]
    metrics += [SummaryMetric(_final(name)) for name in ("eval/accuracy", "eval/loss")]
    columns = [ParallelCoordinatesPlotColumn(metric=metric) for metric in metrics]
    plot = ParallelCoordinatesPlot(title="What goes with a low loss", columns=columns)
    return Section(name="All settings", panels=[plot])


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
    """Return each run's final value of a metric against the configuration key."""
    return ScatterPlot(
        title=f"{metric} against {by}", x=Config(by), y=SummaryMetric(_final(metric))
    )


def _final(metric: str) -> str:
    """Return where a summary keeps the last value; the best of many would flatter noisy runs."""
    return f"{metric}.last"
