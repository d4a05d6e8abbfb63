"""Figure: the worst case of every method and data set, with what it answered."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from reports.arrays import runs_in_order
from reports.figures.sheet import grid, named, outline, show
from reports.figures.style import Drawing, cut, finish, house_style
from reports.frame import Frame
from reports.gallery import Kept, read_or_warn
from reports.rows import Row
from reports.summary import best
from reports.table import number
from reports.variants import unflagged

NAME = "figure_worst"
CASES, METHODS = 4, 6  # of a method; of a data set
REFERENCE, ANSWER = "#E69F00", "#56B4E9"
CAPTION = (
    "The cases of least mean Dice (over labels, draws and seeds of the run shown), the worst first: the reference in "
    "orange, the answer of the first draw in blue, all labels together. Of volumes the slice with most reference."
)


class Line(NamedTuple):
    """A row and its worst cases."""

    row: Row
    cases: list[Kept]


def build(frame: Frame) -> Drawing | None:
    """A line of panels per method and data set; None where no run has a gallery."""
    lines = []
    for _, rows in frame.by_dataset():
        shown = best({row.method: row.summary("Dice") for row in rows}, METHODS)
        lines += [line for row in rows if row.method in shown and (line := _worst(row, frame.warnings)).cases]
    if not lines:
        return None
    counts = [len(rows) for _, rows in frame.by_dataset()]
    with house_style(NAME):
        figure, axes = grid(len(lines), max(len(line.cases) for line in lines), inches=1.3)
        said = [_line(panels, line) for panels, line in zip(axes, lines, strict=True)]
        alt = "Pictures of the worst cases with reference and answer outlined. Dice: " + "; ".join(said) + "."
        return finish(figure, NAME, "Worst cases", alt, cut(CAPTION, counts, METHODS))


def _worst(row: Row, warnings: list[str]) -> Line:
    for run in runs_in_order(row):
        paths = sorted((run.path / "gallery").glob("[!.]*.npz"))
        read = [kept for path in paths[:CASES] if (kept := read_or_warn(path, warnings))]
        cases = [kept for kept in read if np.isfinite(kept.dice)]
        if cases:
            return Line(row, cases)
    return Line(row, [])


def _line(axes: list[Axes], line: Line) -> str:
    said = []
    for ax, kept in zip(axes, line.cases, strict=False):
        score, at = number(kept.dice, 3), kept.opening
        picture = kept.image[at] / 255
        show(ax, picture[..., 0] if picture.shape[-1] == 1 else picture, f"{kept.case}\nDice {score}")
        outline(ax, np.any(kept.reference[:, at], axis=0), REFERENCE)
        outline(ax, np.any(kept.masks[0, :, at], axis=0), ANSWER)
        said.append(f"{kept.case} {score}")
    named(axes[0], f"{line.row.dataset}\n{unflagged(line.row.method)}")
    return f"{line.row.where}: {', '.join(said)}"
