"""Figure: on how many pixels the draws of a case disagree, every case of every method."""

from __future__ import annotations

import math

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from bench.scores import Summary
from reports.figures.strips import summaries
from reports.figures.style import LARGEST, Drawing, cut, finish, house_style
from reports.frame import Frame
from reports.rows import Row
from reports.summary import best
from reports.table import number
from reports.variants import unflagged

NAME = "figure_disagreement"
METRIC = "flip_rate"
CAPTION = (
    "Every dot is one test case: the share of its pixels on which the draws are not unanimous (mean over labels and "
    "seeds). The large mark is the mean over cases as in Table 5, the bar its 95 % interval; no bar below ten "
    "independent cases. More draws find more to disagree on: {draws} per case here."
)


def build(frame: Frame) -> Drawing | None:
    """One panel per data set; None where no draws disagree."""
    panels: dict[str, dict[str, Summary]] = {}
    counts: list[int] = []
    silent: set[str] = set()
    for dataset, rows in frame.by_dataset():
        drawn = {row.method: row for row in rows if math.isfinite(row.agreement(METRIC).mean)}
        scored = {method: row for method, row in drawn.items() if row.agreement(METRIC).mean > 0}
        silent |= {unflagged(method) for method in drawn.keys() - scored.keys()}
        if scored:
            counts.append(len(scored))
            panels[dataset] = _shown(scored)
    if not panels:
        return None
    methods = sorted({method for rows in panels.values() for method in rows})
    heights = [0.4 * len(rows) + 0.5 for rows in panels.values()]
    draws = sorted({run.record.draws for run in frame.runs if run.record.draws > 1})
    caption = cut(CAPTION.format(draws=" or ".join(map(str, draws))), counts)
    caption += f" No draws of {', '.join(sorted(silent))} disagree anywhere." if silent else ""
    with house_style(NAME):
        figure = Figure(figsize=(8.0, sum(heights) + 0.45 * len(heights) + 0.5), layout="constrained")
        axes = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
        for ax, (dataset, shown) in zip(axes, panels.items(), strict=True):
            summaries(ax, dataset, shown, methods, digits=4)
            ax.set_xlim(left=min(0.0, ax.get_xlim()[0]))
            ax.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes[-1].set_xlabel("Pixels on which draws disagree (lower is better)")
        return finish(figure, NAME, "Disagreement between draws", _alt(panels), caption)


def _shown(scored: dict[str, Row]) -> dict[str, Summary]:
    """The best methods by Dice, and on what their draws disagree."""
    kept = best({method: row.summary("Dice") for method, row in scored.items()}, LARGEST)
    return {method: scored[method].agreement(METRIC) for method in kept}


def _alt(panels: dict[str, dict[str, Summary]]) -> str:
    parts = []
    for dataset, rows in panels.items():
        means = ", ".join(f"{method} {number(summary.mean, 4)}" for method, summary in rows.items())
        parts.append(f"{dataset}: {means}")
    return "Dot plot of the share of pixels on which draws disagree. Mean on " + "; on ".join(parts) + "."
