"""Figure 3: mean Dice over steps, one line per training and number of samples, with agreement of draws and time."""

from __future__ import annotations

import math
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from reports.figures.style import INK, Drawing, colour, finish, house_style, label_axes, log_ticks, marker, panels
from reports.frame import Frame
from reports.tables.convergence import NAME, TITLE, At, Series, curves, seconds

CAPTION = (
    "Mean Dice over cases, Dice between repeated answers to one case, and seconds of an answer ({clock}), against the "
    "steps of a sample (log scale). Where all have one number of samples, the band is the 95 % interval over cases, "
    "none below ten independent cases. All points of a line share one training."
)
DICE, PAIRS, TIME = "mean Dice", "Dice between answers", "time of an answer (s)"


class Mark(NamedTuple):
    """A point of a line, with its interval where it has one."""

    value: float
    interval: tuple[float, float] | None = None


Lines = dict[str, dict[At, Mark]]  # by series


def build(frame: Frame) -> Drawing | None:
    """Up to three panels per data set; None where no sweep was scored."""
    shown: dict[tuple[str, str], Lines] = {}
    clocks = set()
    for dataset, by_series in curves(frame).items():
        clock, quantities = _quantities(by_series)
        clocks |= {clock} if quantities[TIME] else set()
        shown |= {(dataset, quantity): lines for quantity, lines in quantities.items() if lines}
    if not shown:
        return None
    names = sorted({name for lines in shown.values() for name in lines})
    samples = sorted({at.samples for lines in shown.values() for points in lines.values() for at in points})
    with house_style(NAME):
        figure, axes = panels([dataset for dataset, _ in shown])
        for ax, ((_, quantity), lines) in zip(axes, shown.items(), strict=True):
            _panel(ax, quantity, lines, names, samples)
        handles = _handles(names, samples)
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
        caption = CAPTION.format(clock=" or ".join(sorted(clocks)) or "not known")
        return finish(figure, NAME, TITLE, _alt(shown), caption)


def _quantities(by_series: dict[str, Series]) -> tuple[str, dict[str, Lines]]:
    clock, times = seconds([row for series in by_series.values() for row in series.values()])
    left = iter(times)
    lines: dict[str, Lines] = {DICE: {}, PAIRS: {}, TIME: {}}
    for name, points in by_series.items():
        for at, row in points.items():
            dice, pairs = row.summary("Dice"), row.agreement("Dice/pairs")
            marks = {DICE: Mark(dice.mean, dice.interval), PAIRS: Mark(pairs.mean), TIME: Mark(next(left))}
            for quantity, mark in marks.items():
                if math.isfinite(mark.value):
                    lines[quantity].setdefault(name, {})[at] = mark
    return clock, lines


def _panel(ax: Axes, quantity: str, series: Lines, names: list[str], samples: list[int]) -> None:
    every = {at for points in series.values() for at in points}
    over_steps = len({at.steps for at in every}) > 1 or len({at.samples for at in every}) == 1
    for name, points in series.items():
        # One line per number of samples; over them where there is but one number of steps.
        for count in samples if over_steps else [None]:
            line = {at: mark for at, mark in points.items() if count in (None, at.samples)}
            at_x = [at.steps if over_steps else at.samples for at in line]
            ink, shape = colour(names.index(name)), marker(_mark(name, count, names, samples))
            _line(ax, at_x, list(line.values()), ink, shape, banded=len(samples) == 1)
    ax.xaxis.set_major_locator(FixedLocator(sorted({at.steps if over_steps else at.samples for at in every})))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(ScalarFormatter())
    if quantity == TIME:
        ax.set_yscale("log")
        log_ticks(ax.yaxis)
    ax.margins(y=0.12)
    label_axes(ax, "steps of a sample" if over_steps else "samples of an answer", quantity, legend=False)


def _line(ax: Axes, x: list[int], marks: list[Mark], ink: str, shape: str, banded: bool) -> None:
    bands = [(at, *mark.interval) for at, mark in zip(x, marks, strict=True) if mark.interval]
    if bands and banded:
        places, low, high = zip(*bands, strict=True)
        ax.fill_between(places, low, high, color=ink, alpha=0.12, linewidth=0)
    ax.plot(x, [mark.value for mark in marks], color=ink, marker=shape, linewidth=1.8, markersize=6)


def _mark(name: str, count: int | None, names: list[str], samples: list[int]) -> int:
    # Marks tell the numbers of samples apart, or where there is one number the trainings, as their colours do.
    return names.index(name) if count is None or len(samples) == 1 else samples.index(count)


def _handles(names: list[str], samples: list[int]) -> list[Line2D]:
    several = len(samples) > 1
    handles = [
        Line2D(
            [], [], color=colour(i), linewidth=3 if several else 1.8, marker="" if several else marker(i), label=name
        )
        for i, name in enumerate(names)
    ]
    if several:
        words = [f"{count} sample{'s' if count > 1 else ''}" for count in samples]
        handles += [Line2D([], [], color=INK, marker=marker(i), linewidth=0, label=w) for i, w in enumerate(words)]
    return handles


def _alt(shown: dict[tuple[str, str], Lines]) -> str:
    parts = []
    for (dataset, quantity), lines in shown.items():
        for name, points in lines.items():
            values = ", ".join(f"{mark.value:.3f} at {at.steps} \u00d7 {at.samples}" for at, mark in points.items())
            parts.append(f"{quantity} on {dataset}, {name}: {values}")
    return "Line plots over steps \u00d7 samples. " + "; ".join(parts) + "."
