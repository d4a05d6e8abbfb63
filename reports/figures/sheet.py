"""Sheets of small pictures: a grid of panels without axes, maps made small, outlines of masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

SIDE = 144  # pixels of a panel, at most
OUTLINE = "#E69F00"


def grid(lines: int, columns: int, inches: float = 1.05, apart: float = 0.04) -> tuple[Figure, np.ndarray]:
    """A figure of `lines` x `columns` panels of so many inches, twice `apart` of them between, and their axes."""
    size = ((inches + apart) * columns + 0.3, (inches + 0.18) * lines + 0.35)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=apart))
    axes = figure.subplots(lines, columns, squeeze=False)
    for ax in axes.ravel():
        ax.set_axis_off()
    return figure, axes


def small(picture: np.ndarray) -> np.ndarray:
    """Float (H, W) or (H, W, 3) of at most SIDE pixels, means over blocks."""
    step = -(-max(picture.shape[:2]) // SIDE)
    height, width = (edge // step * step for edge in picture.shape[:2])
    blocks = picture[:height, :width].astype(np.float64)
    return blocks.reshape(height // step, step, width // step, step, *picture.shape[2:]).mean(axis=(1, 3))


def show(ax: Axes, picture: np.ndarray, title: str = "", low: float = 0.0, high: float = 1.0) -> None:
    """A map (H, W) in grey, `low` black and `high` white, or a picture (H, W, 3) of values in [0, 1]."""
    ax.imshow(small(picture), cmap="gray", vmin=low, vmax=high, interpolation="none")
    ax.set_title(title, fontsize=8, fontweight="normal", loc="center", pad=3)


def outline(ax: Axes, mask: np.ndarray, ink: str = OUTLINE) -> None:
    """The edge of a mask (H, W) over a picture of the same size."""
    if mask.any() and not mask.all():
        ax.contour(small(mask), levels=[0.5], colors=ink, linewidths=1.0)


def named(ax: Axes, text: str) -> None:
    """The name of a line of panels, beside its first one."""
    ax.text(-0.08, 0.5, text, transform=ax.transAxes, rotation=90, ha="right", va="center", fontsize=8)


def picture_of(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) in [0, 1] of a stored image (C, H, W) uint8."""
    rgb = np.repeat(image[:1], 3, axis=0) if len(image) < 3 else image[:3]
    return rgb.transpose(1, 2, 0) / 255


def largest(masks: Sequence[np.ndarray] | np.ndarray) -> int:
    """Which of the masks (L, H, W) of a case shows most."""
    return int(np.argmax([mask.sum() for mask in masks]))
