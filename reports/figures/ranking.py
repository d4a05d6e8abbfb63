"""Figure: how firmly the order of methods stands, and which pairs of them differ."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from reports.contest import Contest, contests
from reports.figures.style import FAINT, LARGEST, Drawing, colour, cut, finish, house_style
from reports.frame import Frame
from reports.variants import unflagged

NAME = "figure_ranking"
CAPTION = (
    "Left: the share of 1,000 resamples of the cases in which a method takes a rank (area of the disc), with the 95"
    " % range. Right: difference in mean Dice, row minus column, in points; filled where it is shown (sign-flip "
    "test after Holm over all pairs, and the interval), blue where the row is better, orange where it is worse."
)


def build(frame: Frame) -> Drawing | None:
    """Two panels per data set; None where fewer than two methods can be compared."""
    shown = contests(frame)
    if not shown:
        return None
    heights = [0.42 * len(contest.methods[:LARGEST]) + 1.0 for contest in shown]
    caption = cut(CAPTION, (len(contest.methods) for contest in shown))
    with house_style(NAME):
        figure = Figure(figsize=(10.5, sum(heights)), layout="constrained")
        axes = figure.subplots(
            len(shown), 2, squeeze=False, gridspec_kw={"height_ratios": heights, "width_ratios": [1, 1.25]}
        )
        for (left, right), contest in zip(axes, shown, strict=True):
            _ranks(left, contest)
            _pairs(right, contest)
        return finish(figure, NAME, "Ranks and pairs", _alt(shown), caption)


def _ranks(ax: Axes, contest: Contest) -> None:
    ax.set_title(contest.dataset)
    methods = contest.methods[:LARGEST]
    count = last = len(methods)
    for height, method in enumerate(methods):
        index = contest.cases.models.index(method)
        ranks, shares = np.unique(contest.ranking.ranks[:, index], return_counts=True)
        last = max(last, int(ranks[-1]))
        ax.plot(
            [contest.ranking.low[index], contest.ranking.high[index]],
            [height] * 2,
            color=FAINT,
            linewidth=1.5,
            zorder=1,
        )
        ax.scatter(ranks, [height] * len(ranks), s=240 * shares / shares.sum(), color=colour(0), linewidths=0, zorder=2)
    ax.set_yticks(range(count), [unflagged(method) for method in methods])
    ax.set_xticks(range(1, last + 1, -(-last // LARGEST)))
    ax.set_xlim(0.4, last + 0.6)
    ax.set_ylim(count - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    ax.set_axisbelow(True)
    ax.set_xlabel("Rank by mean Dice")


def _pairs(ax: Axes, contest: Contest) -> None:
    methods = contest.methods[:LARGEST]
    count = len(methods)
    for row, a in enumerate(methods):
        for column, b in enumerate(methods):
            if row == column:
                continue
            pair = (a, b) if row < column else (b, a)
            difference = 100 * contest.difference(pair) * (1 if row < column else -1)
            shown, ink = contest.shown(pair), colour(0) if difference > 0 else colour(1)
            if shown:
                square = Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=ink, edgecolor="white", linewidth=1)
                ax.add_artist(square)  # the limits are set below; add_patch would widen them for every square
            text = "\u2013" if math.isnan(difference) else f"{difference:+.1f}".replace("-", "\u2212")
            number = ax.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if shown else None)
            number.set_in_layout(False)  # it lies inside; measuring hundreds of them takes long
    names = [unflagged(method) for method in methods]
    ax.set_yticks(range(count), names)
    ax.set_xticks(range(count), names, rotation=30, ha="right", fontsize=8)
    ax.set_xlim(-0.5, count - 0.5)
    ax.set_ylim(count - 0.5, -0.5)
    ax.tick_params(length=0)


def _alt(groups: list[Contest]) -> str:
    parts = []
    for contest in groups:
        methods = contest.methods[:LARGEST]
        pairs = list(combinations(methods, 2))
        shown = sum(contest.shown(pair) for pair in pairs)
        order = ", ".join(unflagged(method) for method in methods)
        parts.append(f"{contest.dataset}, best first: {order}; {shown} of {len(pairs)} pairs differ")
    return "Ranks over resamples and a matrix of paired differences. " + "; ".join(parts) + "."
