"""Figure 2: masks, their latents, and what the frozen autoencoder makes of these again."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes

from reports.arrays import Arrays, kept, read_arrays
from reports.figures.sheet import grid, largest, named, outline, picture_of, show
from reports.figures.style import Drawing, finish, house_style
from reports.frame import Frame
from reports.table import number

NAME = "figure2"
CASES = 2  # of a data set
_ARRAYS = ("case", "image", "mask", "mask_latent", "reconstruction")
_SPREAD = 3.0  # latents have a standard deviation of one
CAPTION = (
    "Masks of validation cases, the channels of their latent (black \u22123, white 3 standard deviations), and the "
    "reconstruction D(E(X)) by the frozen autoencoder, cut at one half, with its Dice: what a method of such latents "
    "can reach at best. Of several labels, the largest of the case. The mask is outlined on the image."
)


def build(frame: Frame) -> Drawing | None:
    """Two lines of panels per data set; None where no training kept latents of masks."""
    stored = {one.row.dataset: read_arrays(next(iter(one.files.values())), _ARRAYS, frame.warnings)
              for one in kept(frame, *_ARRAYS)}  # fmt: skip
    shown = [(dataset, arrays, index) for dataset, arrays in stored.items() if arrays
             for index in range(min(CASES, len(arrays["case"])))]  # fmt: skip
    if not shown:
        return None
    channels = max(arrays["mask_latent"].shape[2] for _, arrays, _ in shown)
    with house_style(NAME):
        figure, axes = grid(len(shown), channels + 3)
        said = [_line(line, *case, top=i == 0) for i, (line, case) in enumerate(zip(axes, shown, strict=True))]
        alt = "Pictures of masks, latents and reconstructions. Dice of the reconstruction: " + "; ".join(said) + "."
        return finish(figure, NAME, "Figure 2 \u00b7 Reconstructions and latents of masks", alt, CAPTION)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Dice of two masks; NaN where both are empty."""
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else math.nan


def _line(axes: list[Axes], dataset: str, arrays: Arrays, index: int, top: bool) -> str:
    label = largest(arrays["mask"][index])
    mask, rebuilt = arrays["mask"][index, label], arrays["reconstruction"][index, label]
    score = number(dice(mask, rebuilt), 3)
    show(axes[0], picture_of(arrays["image"][index]), "Image" if top else "")
    outline(axes[0], mask)
    named(axes[0], dataset)
    show(axes[1], mask, "Mask X" if top else "")
    for channel, latent in enumerate(arrays["mask_latent"][index, label]):
        show(axes[2 + channel], latent, f"E(X), channel {channel + 1}" if top else "", -_SPREAD, _SPREAD)
    show(axes[-1], rebuilt, ("D(E(X))\n" if top else "") + f"Dice {score}")
    return f"{dataset}, {arrays['case'][index]}: {score}"
