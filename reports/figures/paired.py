"""Figure: the difference of every case between a method and the first of its data set, with its interval."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.stats import SMALLEST_INTERVAL
from reports.contest import METRIC, Contest, contests
from reports.figures.strips import label, strip
from reports.figures.style import FAINT, INK, LARGEST, Drawing, colour, cut, finish, house_style
from reports.frame import Frame
from reports.table import number
from reports.variants import unflagged

NAME = "figure_paired"
CAPTION = (
    f"Every dot is one test case: {METRIC} of the method minus that of the first by mean {METRIC} on the same case "
    "(means over labels, draws and seeds). The mark is the mean difference, the bar its 95 % interval, none below "
    "ten independent cases; filled where a difference is shown (sign-flip test after Holm over all pairs, and the "
    "interval). Right of the line the method is better."
)


def build(frame: Frame) -> Drawing | None:
    """One panel per data set; None where fewer than two methods can be compared."""
    shown = [contest for contest in contests(frame) if _others(contest)]
    if not shown:
        return None
    heights = [0.38 * len(_others(contest)) + 0.6 for contest in shown]
    caption = cut(CAPTION, (len(contest.methods) for contest in shown))
    with house_style(NAME):
        figure = Figure(figsize=(8.0, sum(heights) + 0.5 * len(heights) + 0.4), layout="constrained")
        axes = figure.subplots(len(shown), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
        said = [_panel(ax, contest) for ax, contest in zip(axes, shown, strict=True)]
        axes[-1].set_xlabel(f"Difference in {METRIC} to the first")
        alt = "Dot plot of differences per case. Mean difference to the first: " + "; ".join(said) + "."
        return finish(figure, NAME, "Differences per case", alt, caption)


def _others(contest: Contest) -> list[str]:
    """The methods that share a case with the first."""
    first, *others = contest.methods[:LARGEST]
    return [method for method in others if math.isfinite(contest.difference((first, method)))]


def _panel(ax: Axes, contest: Contest) -> str:
    first, others, numbers, said, dots = contest.methods[0], _others(contest), [], [], 0
    ax.set_title(f"{contest.dataset}: against {unflagged(first)}")
    ax.axvline(0, color=INK, linewidth=1)
    for height, method in enumerate(others):
        pair = (first, method)
        values = contest.cases.row(method) - contest.cases.row(first)
        values = values[np.isfinite(values)]
        shown, mean = contest.shown(pair), -contest.difference(pair)
        over = contest.pair(pair).difference
        interval = (-over.high, -over.low) if over.groups >= SMALLEST_INTERVAL else None
        ink = colour(0) if mean > 0 else colour(1)
        strip(ax, height, values, mean, interval, ink, dots=FAINT, filled=shown)
        numbers.append(number(mean, 3).replace("-", "\u2212"))
        said.append(f"{unflagged(method)} {numbers[-1]}{'' if shown else ' (not shown)'}")
        dots += values.size
    label(ax, [unflagged(method) for method in others], numbers, dots)
    return f"{contest.dataset} against {unflagged(first)}: {', '.join(said)}"
