"""Figure 3: mean Dice over DDIM steps, with and without the latent-estimation loss, per data set."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from bench.scores import Summary
from reports.figures.style import Drawing, colour, finish, house_style, label_axes, marker, panels
from reports.frame import Frame
from reports.tables.convergence import NAME, curves

CAPTION = (
    "Mean Dice over cases against DDIM steps (log scale); the band is the 95 % interval over cases, none below ten "
    "independent cases. All steps of a line share one training."
)
Means = dict[int, Summary]  # by number of steps


def build(frame: Frame) -> Drawing | None:
    """One panel per data set; None where no sweep over steps was scored."""
    shown: dict[str, dict[str, Means]] = {}
    for dataset, by_series in curves(frame).items():
        for series, by_steps in by_series.items():
            points = {steps: row.summary("Dice") for steps, row in by_steps.items()}
            points = {steps: summary for steps, summary in points.items() if math.isfinite(summary.mean)}
            if points:
                shown.setdefault(dataset, {})[series] = points
    if not shown:
        return None
    names = sorted({name for series in shown.values() for name in series})
    with house_style(NAME):
        figure, axes = panels(list(shown))
        for ax, lines in zip(axes, shown.values(), strict=True):
            _panel(ax, lines, names)
        return finish(figure, NAME, "Dice over DDIM steps", _alt(shown), CAPTION)


def _panel(ax: Axes, series: dict[str, Means], names: list[str]) -> None:
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
    ax.margins(y=0.12)
    label_axes(ax, "DDIM steps", "mean Dice")


def _alt(shown: dict[str, dict[str, Means]]) -> str:
    parts = []
    for dataset, series in shown.items():
        for name, points in series.items():
            means = ", ".join(f"{summary.mean:.3f} at {steps}" for steps, summary in points.items())
            parts.append(f"{dataset}, {name}: {means}")
    return "Line plot of mean Dice over DDIM steps. " + "; ".join(parts) + "."
