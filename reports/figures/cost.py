"""Figure: mean Dice against the time of an answer, per data set."""

from __future__ import annotations

import math

from matplotlib.axes import Axes

from bench.scores import Summary
from reports.figures.style import (
    FAINT,
    LARGEST,
    Drawing,
    colour,
    cut,
    finish,
    house_style,
    label_axes,
    log_ticks,
    marker,
    panels,
)
from reports.frame import Frame
from reports.provenance import answer_seconds, device, threads
from reports.rows import Row
from reports.summary import best

NAME = "figure_cost"
CAPTION = (
    "Mean Dice over cases with its 95 % interval against the median time of an answer, one image or slice at batch "
    "1 (log scale, mean over seeds; a method that sees volumes: the time of a block over its slices). Up and to the "
    "left is better; on the line, the Pareto front, are the methods than which no other is as good and as fast. Times "
    "compare only on one device: {machines}."
)
Point = tuple[float, Summary]


def build(frame: Frame) -> Drawing | None:
    """One panel per data set; None where no method has both a Dice and a time."""
    shown: dict[str, dict[str, Point]] = {}
    for row in frame.rows:
        summary, time = row.summary("Dice"), _time(row)
        if math.isfinite(summary.mean) and time is not None:
            shown.setdefault(row.dataset, {})[row.method] = (time, summary)
    if not shown:
        return None
    caption = cut(CAPTION.format(machines=_machines(frame)), map(len, shown.values()))
    for dataset, points in shown.items():
        kept = best({method: summary for method, (_, summary) in points.items()}, LARGEST)
        shown[dataset] = {method: points[method] for method in kept}
    methods = sorted({method for points in shown.values() for method in points})
    with house_style(NAME):
        figure, axes = panels(list(shown))
        for ax, points in zip(axes, shown.values(), strict=True):
            _panel(ax, points, methods)
        return finish(figure, NAME, "Accuracy against time", _alt(shown), caption)


def _time(row: Row) -> float | None:
    times = [1000 * answer_seconds(run.record)[0] for run in row.runs]
    times = [time for time in times if math.isfinite(time) and time > 0]
    return math.fsum(times) / len(times) if times else None


def _panel(ax: Axes, points: dict[str, Point], methods: list[str]) -> None:
    for method, (latency, summary) in points.items():
        index = methods.index(method)
        if interval := summary.interval:
            ax.plot([latency] * 2, interval, color=colour(index), linewidth=2, alpha=0.5)
        ax.scatter([latency], [summary.mean], s=70, color=colour(index), marker=marker(index), zorder=3, label=method)
    front = sorted((time, summary.mean) for method, (time, summary) in points.items() if method in pareto(points))
    ax.plot(*zip(*front, strict=True), color=FAINT, linewidth=1.2, drawstyle="steps-post", zorder=1)
    times = [latency for latency, _ in points.values()]
    # At least a decade wide, so that noise in the time does not look like a difference.
    middle = math.sqrt(min(times) * max(times))
    ax.set_xlim(min(min(times) / 1.5, middle / 3.2), max(max(times) * 1.5, middle * 3.2))
    log_ticks(ax.xaxis)
    ax.margins(y=0.15)
    label_axes(ax, "median time of an answer (ms)", "mean Dice")


def pareto(points: dict[str, Point]) -> list[str]:
    """The methods than which no other is as fast and as good, and better in one of the two; fastest first."""
    front: list[str] = []
    for method, (_, summary) in sorted(points.items(), key=lambda item: (item[1][0], -item[1][1].mean)):
        if not front or summary.mean > points[front[-1]][1].mean:
            front.append(method)
    return front


def _machines(frame: Frame) -> str:
    places = {(device(run.record), threads(run.record)) for run in frame.runs}
    return "; ".join(sorted(f"{name}, threads: {n or 'unknown'}" for name, n in places))


def _alt(panels: dict[str, dict[str, Point]]) -> str:
    parts = []
    for dataset, points in panels.items():
        pairs = ", ".join(f"{method} {s.mean:.3f} at {latency:.0f} ms" for method, (latency, s) in points.items())
        parts.append(f"{dataset}: {pairs}; Pareto front: {', '.join(pareto(points))}")
    return "Scatter plot of mean Dice against the time of an answer. On " + "; on ".join(parts) + "."
