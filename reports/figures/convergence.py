"""Figure 3: mean Dice over DDIM steps, with and without the latent-estimation loss, per data set."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from bench.scores import Summary
from reports.figures.style import Drawing, colour, finish, house_style, marker
from reports.frame import Frame
from reports.tables.convergence import NAME, curves, dice

CAPTION = (
    "Mean Dice over cases against DDIM steps (log scale); the band is the 95 % interval over cases, none below ten "
    "independent cases. All steps of a line share one training."
)
Series = dict[str, dict[int, Summary]]


def build(frame: Frame) -> Drawing | None:
    """One panel per data set; None where no sweep over steps was scored."""
    panels: dict[str, Series] = {}
    for dataset, by_series in curves(frame).items():
        for series, by_steps in by_series.items():
            points = {steps: dice(frame, runs) for steps, runs in by_steps.items()}
            points = {steps: summary for steps, summary in points.items() if math.isfinite(summary.mean)}
            if points:
                panels.setdefault(dataset, {})[series] = points
    if not panels:
        return None
    names = sorted({name for series in panels.values() for name in series})
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    with house_style(NAME):
        figure = Figure(figsize=(8.0, 3.5 * lines), layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False).ravel()
        for ax, (dataset, curves_of) in zip(axes, panels.items(), strict=False):
            _panel(ax, dataset, curves_of, names)
        for ax in axes[len(panels) :]:
            ax.set_visible(False)
        return finish(figure, NAME, "Dice over DDIM steps", _alt(panels), CAPTION)


def _panel(ax: Axes, dataset: str, series: Series, names: list[str]) -> None:
    ax.set_title(dataset)
    ax.set_xscale("log")
    for name, points in series.items():
        index = names.index(name)
        ink = colour(index)
        bands = [(at, *band) for at, summary in points.items() if (band := summary.interval)]
        if bands:
            steps, low, high = zip(*bands, strict=True)
            ax.fill_between(steps, low, high, color=ink, alpha=0.18, linewidth=0)
        means = [summary.mean for summary in points.values()]
        ax.plot(list(points), means, color=ink, marker=marker(index), linewidth=2, label=name)
    ax.xaxis.set_major_locator(FixedLocator(sorted({steps for points in series.values() for steps in points})))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.set_xlabel("DDIM steps")
    ax.set_ylabel("mean Dice")
    ax.margins(y=0.12)
    ax.grid()
    ax.set_axisbelow(True)
    ax.legend(frameon=False, fontsize=9, loc="best")


def _alt(panels: dict[str, Series]) -> str:
    parts = []
    for dataset, series in panels.items():
        for name, points in series.items():
            means = ", ".join(f"{summary.mean:.3f} at {steps}" for steps, summary in points.items())
            parts.append(f"{dataset}, {name}: {means}")
    return "Line plot of mean Dice over DDIM steps. " + "; ".join(parts) + "."
