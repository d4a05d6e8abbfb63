"""Figure 5: the reverse process as score maps over its steps, early in training and at its end."""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from reports.arrays import Arrays, kept, read_arrays
from reports.figures.sheet import grid, largest, named, outline, picture_of, show
from reports.figures.style import Drawing, finish, house_style
from reports.frame import Frame
from reports.table import number

NAME = "figure5"
_PAPER_DATASET = "sts3d"
DATASETS = 3  # at most
_ARRAYS = ("case", "image", "mask", "reverse", "reverse_t")
CAPTION = (
    "The score map of the clean latent as estimated in every step of the reverse process (DDIM), of one validation "
    "case and one noise, by the weights of an early, a middle and the last step of the training, where so many were "
    "kept. Below each its mean absolute difference to the mask over all kept cases. The mask is outlined on the image. "
    "The data set of the paper's figure first, at most three."
)


class Line(NamedTuple):
    """What a line of panels shows: the data set, the training step, what was kept then."""

    dataset: str
    step: int
    arrays: Arrays


def build(frame: Frame) -> Drawing | None:
    """Two or three lines of panels per data set; None where no training kept a reverse process at two steps."""
    lines: list[Line] = []
    for one in islice(kept(frame, *_ARRAYS, first=_PAPER_DATASET), DATASETS):
        steps = early_and_late(list(one.files))
        read = [Line(one.row.dataset, step, arrays) for step in steps
                if (arrays := read_arrays(one.files[step], _ARRAYS, frame.warnings))]  # fmt: skip
        lines += read if len(read) > 1 else []
    if not lines:
        return None
    with house_style(NAME):
        figure, axes = grid(len(lines), 1 + max(len(line.arrays["reverse_t"]) for line in lines), inches=0.95)
        said = [_line(*one, top=i == 0) for i, one in enumerate(zip(axes, lines, strict=True))]
        alt = (
            "Score maps over the steps of the reverse process. Mean absolute difference to the mask, from the first "
            "step to the last: " + "; ".join(said) + "."
        )
        return finish(figure, NAME, "Figure 5 \u00b7 The reverse process, early and late", alt, CAPTION)


def early_and_late(steps: list[int]) -> list[int]:
    """The first step kept after training began, the middle one if there are three, and the last."""
    begun = [step for step in sorted(steps) if step] if len(steps) > 2 else sorted(steps)
    return sorted({begun[0], begun[len(begun) // 2], begun[-1]}) if begun else []


def _line(axes: list[Axes], line: Line, top: bool) -> str:
    arrays = line.arrays
    label = largest(arrays["mask"][0])
    mask = arrays["mask"][0, label]
    show(axes[0], picture_of(arrays["image"][0]), "Image" if top else "")
    outline(axes[0], mask)
    named(axes[0], f"{line.dataset}\nstep {line.step:,}")
    # Over cases, labels and pixels: (B, S, L, H, W) against (B, 1, L, H, W).
    apart = np.abs(arrays["reverse"].astype(np.float64) - arrays["mask"][:, None]).mean(axis=(0, 2, 3, 4))
    for ax, picture, t, distance in zip(
        axes[1:], arrays["reverse"][0, :, label], arrays["reverse_t"], apart, strict=False
    ):
        show(ax, picture, f"t = {t}" if top else "")
        ax.text(0.5, -0.04, number(float(distance), 3), transform=ax.transAxes, ha="center", va="top", fontsize=8)
    return f"{line.dataset}, step {line.step:,}: {', '.join(number(float(value), 3) for value in apart)}"
