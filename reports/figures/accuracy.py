"""Figure: Dice of every case and its mean with interval, per data set and method."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.scores import Summary
from reports.figures.strips import summaries
from reports.figures.style import LARGEST, Drawing, cut, finish, house_style
from reports.frame import Frame
from reports.summary import best

NAME = "figure_accuracy"
CAPTION = (
    "Every dot is one test case (mean over labels, draws and seeds). The large mark is the mean over cases, "
    "the bar its 95 % interval; no bar below ten independent cases."
)


def build(frame: Frame) -> Drawing | None:
    """One panel per data set; None where no Dice was scored."""
    panels: dict[str, dict[str, Summary]] = {}
    for row in frame.rows:
        if math.isfinite((summary := row.summary("Dice")).mean):
            panels.setdefault(row.dataset, {})[row.method] = summary
    if not panels:
        return None
    caption = cut(CAPTION, map(len, panels.values()))
    panels = {dataset: best(rows, LARGEST) for dataset, rows in panels.items()}
    methods = sorted({method for rows in panels.values() for method in rows})
    heights = [0.55 * len(rows) + 0.5 for rows in panels.values()]
    with house_style(NAME):
        figure = Figure(figsize=(8.0, sum(heights) + 0.45 * len(heights) + 0.5), layout="constrained")
        axes = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
        for ax, (dataset, rows) in zip(axes, panels.items(), strict=True):
            summaries(ax, dataset, rows, methods, digits=3)
        _share_range(list(axes))
        axes[-1].set_xlabel("Dice (higher is better)")
        return finish(figure, NAME, "Dice per case", _alt(panels), caption)


def _share_range(axes: list[Axes]) -> None:
    low = min(ax.get_xlim()[0] for ax in axes)
    for ax in axes:
        ax.set_xlim(max(-0.02, low), 1.01)


def _alt(panels: dict[str, dict[str, Summary]]) -> str:
    parts = []
    for dataset, rows in panels.items():
        means = ", ".join(f"{method} {summary.mean:.3f} over {summary.cases} cases" for method, summary in rows.items())
        parts.append(f"{dataset}: {means}")
    return "Dot plot of Dice per case. Mean Dice on " + "; on ".join(parts) + "."
