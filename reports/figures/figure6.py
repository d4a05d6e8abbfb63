"""Figure 6: the latent of an image, as the trainable vision encoder gives it, over training."""

from __future__ import annotations

import math
from itertools import islice

import numpy as np
from matplotlib.axes import Axes

from reports.arrays import Arrays, kept, read_arrays
from reports.figures.sheet import grid, largest, named, outline, picture_of, show
from reports.figures.style import Drawing, finish, house_style
from reports.frame import Frame
from reports.table import number

NAME = "figure6"
_PAPER_DATASET = "cvc_clinicdb"
DATASETS = 3  # at most
_ARRAYS = ("case", "image", "mask", "image_latent")
_SPREAD = 2.5
_MOST = 8  # moments of a training
CAPTION = (
    "The channels of the latent of one validation image, each by its own mean and standard deviation (black "
    "\u22122.5, white 2.5), after so many training steps. Contrast: how far the channel that tells them apart best "
    "lies apart inside and outside the mask, in its standard deviations, the mean over all kept cases. The mask is "
    "outlined on the image. The data set of the paper's figure first, at most three."
)


def build(frame: Frame) -> Drawing | None:
    """A line of panels per data set; None where no training kept the latents of an image."""
    lines: list[tuple[str, dict[int, Arrays]]] = []
    for one in islice(kept(frame, *_ARRAYS, first=_PAPER_DATASET), DATASETS):
        chosen = sorted(one.files)
        chosen = [chosen[round(i)] for i in np.linspace(0, len(chosen) - 1, min(_MOST, len(chosen)))]
        read = {step: read_arrays(one.files[step], _ARRAYS, frame.warnings) for step in chosen}
        over_time = {step: arrays for step, arrays in read.items() if arrays}
        lines += [(one.row.dataset, over_time)] if len(over_time) > 1 else []
    if not lines:
        return None
    with house_style(NAME):
        figure, axes = grid(len(lines), 1 + max(len(over_time) for _, over_time in lines), inches=1.4)
        said = [_line(axes, *line) for axes, line in zip(axes, lines, strict=True)]
        alt = "Latents of an image over training. Contrast of the target: " + "; ".join(said) + "."
        return finish(figure, NAME, "Figure 6 \u00b7 The vision encoder over training", alt, CAPTION)


def contrast(latent: np.ndarray, mask: np.ndarray) -> float:
    """The largest |mean inside - mean outside| over standard deviation of the channels (c, h, w); NaN without a mask.

    A cell of the latent is inside where most of it is, of a mask (H, W).
    """
    height, width = latent.shape[1:]
    blocks = mask.reshape(height, mask.shape[0] // height, width, mask.shape[1] // width)
    inside = blocks.mean(axis=(1, 3)) > 0.5
    if not inside.any() or inside.all():
        return math.nan
    flat = latent.astype(np.float64)
    apart = flat[:, inside].mean(axis=1) - flat[:, ~inside].mean(axis=1)
    return float(np.max(np.abs(apart) / np.maximum(flat.std(axis=(1, 2)), 1e-12)))


def _line(axes: list[Axes], dataset: str, over_time: dict[int, Arrays]) -> str:
    first = next(iter(over_time.values()))
    show(axes[0], picture_of(first["image"][0]), "Image")
    outline(axes[0], first["mask"][0, largest(first["mask"][0])])
    named(axes[0], dataset)
    said = []
    for ax, (step, arrays) in zip(axes[1:], over_time.items(), strict=False):
        each = [
            contrast(z, mask[largest(mask)]) for z, mask in zip(arrays["image_latent"], arrays["mask"], strict=True)
        ]
        defined = [value for value in each if not math.isnan(value)]
        told = number(float(np.mean(defined)) if defined else math.nan, 2)
        show(
            ax,
            _channels(arrays["image_latent"][0].astype(np.float64)),
            f"step {step:,}\ncontrast {told}",
            -_SPREAD,
            _SPREAD,
        )
        said.append(f"{told} at step {step:,}")
    return f"{dataset}: {', '.join(said)}"


def _channels(latent: np.ndarray) -> np.ndarray:
    """The channels (c, h, w) beside each other, two in a line, each with mean 0 and standard deviation 1."""
    mean, sd = (of(latent, axis=(1, 2), keepdims=True) for of in (np.mean, np.std))
    scaled = (latent - mean) / np.maximum(sd, 1e-12)
    scaled = np.concatenate([scaled, np.full((len(scaled) % 2, *scaled.shape[1:]), np.nan)])
    bordered = np.pad(scaled, ((0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    lines = [np.concatenate(list(pair), axis=1) for pair in bordered.reshape(-1, 2, *bordered.shape[1:])]
    return np.concatenate(lines)[:-1, :-1]
