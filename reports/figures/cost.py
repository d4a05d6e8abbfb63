"""Figure: mean Dice against the time of an answer, per data set."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from bench.scores import Summary
from reports.figures.style import LARGEST, Drawing, colour, cut, finish, house_style, marker
from reports.frame import Frame, Run
from reports.provenance import device, threads
from reports.summary import best

NAME = "figure_cost"
CAPTION = (
    "Mean Dice over cases with its 95 % interval against the median time of an answer, one image or slice at batch "
    "1 (log scale, mean over seeds; a method that sees volumes: the time of a block over its slices). Up and to the "
    "left is better. Times compare only on one device: {machines}."
)
Point = tuple[float, Summary]


def build(frame: Frame) -> Drawing | None:
    """One panel per data set; None where no method has both a Dice and a time."""
    panels: dict[str, dict[str, Point]] = {}
    for dataset, method, runs in frame.cells():
        summary = frame.summary(runs, "Dice")
        times = [t for run in runs if math.isfinite(t := _time(run)) and t > 0]
        if math.isfinite(summary.mean) and times:
            panels.setdefault(dataset, {})[method] = (math.fsum(times) / len(times), summary)
    if not panels:
        return None
    caption = cut(CAPTION.format(machines=_machines(frame)), map(len, panels.values()))
    for dataset, points in panels.items():
        kept = best({method: summary for method, (_, summary) in points.items()}, LARGEST)
        panels[dataset] = {method: points[method] for method in kept}
    methods = sorted({method for rows in panels.values() for method in rows})
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    with house_style(NAME):
        figure = Figure(figsize=(8.0, 3.5 * lines), layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False).ravel()
        for ax, (dataset, points) in zip(axes, panels.items(), strict=False):
            _panel(ax, dataset, points, methods)
        for ax in axes[len(panels) :]:
            ax.set_visible(False)
        return finish(figure, NAME, "Accuracy against time", _alt(panels), caption)


def _time(run: Run) -> float:
    slices = run.record.score("slices_per_call")
    return run.record.score("latency_ms_p50") / (slices if math.isfinite(slices) else 1)


def _panel(ax: Axes, dataset: str, points: dict[str, Point], methods: list[str]) -> None:
    ax.set_title(dataset)
    ax.set_xscale("log")
    for method, (latency, summary) in points.items():
        index = methods.index(method)
        if interval := summary.interval:
            ax.plot([latency] * 2, interval, color=colour(index), linewidth=2, alpha=0.5)
        ax.scatter([latency], [summary.mean], s=70, color=colour(index), marker=marker(index), zorder=3, label=method)
    times = [latency for latency, _ in points.values()]
    # At least a decade wide, so that noise in the time does not look like a difference.
    middle = math.sqrt(min(times) * max(times))
    ax.set_xlim(min(min(times) / 1.5, middle / 3.2), max(max(times) * 1.5, middle * 3.2))
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("median time of an answer (ms)")
    ax.set_ylabel("mean Dice")
    ax.margins(y=0.15)
    ax.grid()
    ax.set_axisbelow(True)
    ax.legend(frameon=False, fontsize=9, loc="best")


def _machines(frame: Frame) -> str:
    places = {(device(run.record), threads(run.record)) for run in frame.runs}
    return "; ".join(sorted(f"{name}, threads: {n or 'unknown'}" for name, n in places))


def _alt(panels: dict[str, dict[str, Point]]) -> str:
    parts = []
    for dataset, points in panels.items():
        pairs = ", ".join(f"{method} {s.mean:.3f} at {latency:.0f} ms" for method, (latency, s) in points.items())
        parts.append(f"{dataset}: {pairs}")
    return "Scatter plot of mean Dice against the time of an answer. On " + "; on ".join(parts) + "."
