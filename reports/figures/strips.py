"""Strips: a line per method with a dot for every case, and above them the mean with its interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from bench.scores import Summary
from reports.figures.style import colour, marker
from reports.table import number

# Dots of a panel that an SVG holds one by one; more become one picture in it, which keeps a page light.
MOST_DOTS = 3000


def strip(
    ax: Axes,
    height: int,
    values: np.ndarray,
    mean: float,
    interval: tuple[float, float] | None,
    ink: str,
    shape: str = "o",
    dots: str | None = None,
    filled: bool = True,
) -> None:
    """One line: dots of the values below, the mean as a mark and its interval as a bar above, so that none hides."""
    spread = height + 0.15 + np.random.default_rng(height).uniform(-0.13, 0.13, values.size)
    ax.scatter(values, spread, s=12, color=dots or ink, alpha=0.5, linewidths=0, zorder=0.4)
    if interval:
        ax.plot(interval, [height - 0.16] * 2, color=ink, linewidth=2.4, solid_capstyle="butt")
    face = ink if filled else "white"
    ax.scatter([mean], [height - 0.16], s=55, facecolor=face, edgecolor=ink, marker=shape, zorder=3)


def summaries(ax: Axes, dataset: str, rows: dict[str, Summary], methods: Sequence[str], digits: int) -> None:
    """A line for every summary of a data set, in the colour and with the mark of its place among all methods."""
    ax.set_title(dataset)
    for height, (method, summary) in enumerate(rows.items()):
        index, values = methods.index(method), summary.per_case.to_numpy()
        strip(ax, height, values, summary.mean, summary.interval, colour(index), marker(index))
    dots = sum(len(summary.per_case) for summary in rows.values())
    label(ax, list(rows), [number(summary.mean, digits) for summary in rows.values()], dots)


def label(ax: Axes, names: Sequence[str], numbers: Sequence[str], dots: int) -> None:
    """Names left of all lines and numbers right of them; `dots` is how many there are in all."""
    place = ax.get_yaxis_transform()
    for height, text in enumerate(numbers):
        ax.annotate(text, (1.0, height), xycoords=place, xytext=(8, 0), textcoords="offset points", va="center")
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    ax.set_axisbelow(True)
    if dots > MOST_DOTS:
        ax.set_rasterization_zorder(0.45)  # below the grid, where the dots are
